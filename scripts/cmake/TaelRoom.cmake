# How a room becomes a library, a test and a benchmark: flags, dependencies, and the law of docs/rooms.txt.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)

find_program(TAEL_CCACHE ccache)
if(TAEL_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${TAEL_CCACHE})
endif()

add_library(tael_flags INTERFACE)
target_include_directories(tael_flags INTERFACE ${PROJECT_SOURCE_DIR})
# No contraction except where a kernel asks for it by name: a * b + c must mean two roundings everywhere else, or the
# same source gives different numbers on different machines.
target_compile_options(tael_flags INTERFACE
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wimplicit-fallthrough -Werror
  -ffp-contract=off -fno-math-errno
  $<$<CONFIG:Release>:-O3>
  $<$<CONFIG:Debug>:-O1 -g1>)
if(TAEL_SANITIZE)
  # Undefined behaviour is looked for in the rooms. In the tests' own code (TAEL_TEST_CODE) it costs 40% of the compile time
  # of a sanitizer build, nearly all of it in GoogleTest's macros.
  string(REPLACE "," ";" in_tests "${TAEL_SANITIZE}")
  list(REMOVE_ITEM in_tests undefined)
  list(JOIN in_tests "$<COMMA>" in_tests)
  set(is_test $<BOOL:$<TARGET_PROPERTY:TAEL_TEST_CODE>>)
  target_compile_options(tael_flags INTERFACE
    $<$<NOT:${is_test}>:-fsanitize=${TAEL_SANITIZE}>
    -fno-sanitize-recover=all -fno-omit-frame-pointer)
  if(in_tests)
    target_compile_options(tael_flags INTERFACE $<${is_test}:-fsanitize=${in_tests}>)
  endif()
  target_link_options(tael_flags INTERFACE -fsanitize=${TAEL_SANITIZE})
endif()

# Several sources of a room in one compilation: a third less of the compiler's time. Names in anonymous namespaces must
# then differ within a room. Release builds stay apart: there a change compiles one file, and each must include what it
# uses.
string(COMPARE NOTEQUAL "${TAEL_SANITIZE}" "" unity)
option(TAEL_UNITY "compile the sources of a room in batches" ${unity})

# The rooms that `room` may include, from the law.
function(tael_law room out)
  file(STRINGS ${PROJECT_SOURCE_DIR}/docs/rooms.txt lines REGEX "^${room}:")
  string(REGEX REPLACE "^${room}: *" "" allowed "${lines}")
  separate_arguments(allowed)
  set(${out} ${allowed} PARENT_SCOPE)
endfunction()

# tael_room(NAME SOURCES a.cpp ... [LINK target ...]): the static library tael_NAME, linked to the rooms of its line.
function(tael_room room)
  cmake_parse_arguments(ROOM "" "" "SOURCES;LINK" ${ARGN})
  add_library(tael_${room} STATIC ${ROOM_SOURCES})
  if(TAEL_UNITY)
    set_target_properties(tael_${room} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 6)
    target_compile_options(tael_${room} PRIVATE -Wno-subobject-linkage)  # each .cpp is a file that another includes
  endif()
  target_link_libraries(tael_${room} PUBLIC tael_flags fmt::fmt PRIVATE ${ROOM_LINK})
  tael_law(${room} allowed)
  foreach(other ${allowed})
    if(TARGET tael_${other})
      target_link_libraries(tael_${room} PUBLIC tael_${other})
    endif()
  endforeach()
endfunction()
