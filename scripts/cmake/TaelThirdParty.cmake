# Libraries without a CMake package in Debian and Ubuntu become imported targets tael_NAME here.

# tael_find_library(NAME HEADER h LIBRARY a b ... SUFFIXES dir ... [OPTIONAL]): the first of the libraries that is found.
function(tael_find_library name)
  cmake_parse_arguments(LIB "OPTIONAL" "HEADER" "LIBRARY;SUFFIXES" ${ARGN})
  if(TARGET tael_${name})
    return()
  endif()
  find_path(TAEL_${name}_INCLUDE ${LIB_HEADER} PATH_SUFFIXES ${LIB_SUFFIXES})
  find_library(TAEL_${name}_LIBRARY NAMES ${LIB_LIBRARY} PATH_SUFFIXES ${LIB_SUFFIXES})
  mark_as_advanced(TAEL_${name}_INCLUDE TAEL_${name}_LIBRARY)
  if(TAEL_${name}_INCLUDE AND TAEL_${name}_LIBRARY)
    add_library(tael_${name} UNKNOWN IMPORTED GLOBAL)
    set_target_properties(tael_${name} PROPERTIES
      IMPORTED_LOCATION ${TAEL_${name}_LIBRARY}
      INTERFACE_INCLUDE_DIRECTORIES ${TAEL_${name}_INCLUDE})
    message(STATUS "${name}: ${TAEL_${name}_LIBRARY}")
  elseif(LIB_OPTIONAL)
    message(STATUS "${name}: not found, doing without")
  else()
    message(FATAL_ERROR "${name}: ${LIB_HEADER} or its library not found; scripts/quickstart --build-only installs it")
  endif()
endfunction()

# The serial variant by name: the parallel one is not thread-safe, and its collective writes lose data in silence.
tael_find_library(hdf5 HEADER hdf5.h LIBRARY hdf5_serial hdf5 SUFFIXES hdf5/serial)
tael_find_library(xxhash HEADER xxhash.h LIBRARY xxhash)
tael_find_library(yaml_cpp HEADER yaml-cpp/parser.h LIBRARY yaml-cpp)
tael_find_library(zlib HEADER zlib.h LIBRARY z)
tael_find_library(zstd HEADER zstd.h LIBRARY zstd)
tael_find_library(isal HEADER isa-l/crc.h LIBRARY isal OPTIONAL)
