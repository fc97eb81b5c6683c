# cmake -DNM=nm -DISA=avx2 -DOBJECTS=a.o,b.o -P CheckIsaSymbols.cmake
#
# Fails if an object compiled for one instruction set defines a symbol that the linker might share with code for another
# (weak: an inline function, a template, a static of one) whose name does not carry the instruction set. The linker keeps
# one of several such copies, any of them, and a machine without AVX-512 would stop at an illegal instruction.
string(REPLACE "," ";" OBJECTS "${OBJECTS}")
set(leaks "")
foreach(object ${OBJECTS})
  execute_process(COMMAND ${NM} -C --defined-only ${object} OUTPUT_VARIABLE symbols RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${NM} cannot read ${object}")
  endif()
  string(REGEX MATCHALL "[0-9a-f]+ [WVu] [^\n]+" weak "${symbols}")
  foreach(symbol ${weak})
    # DW.ref.__gxx_personality_v0 is a pointer, not code.
    if(NOT symbol MATCHES "${ISA}::" AND NOT symbol MATCHES " DW[.]ref[.]")
      get_filename_component(name ${object} NAME)
      string(APPEND leaks "  ${name}: ${symbol}\n")
    endif()
  endforeach()
endforeach()
if(leaks)
  message(FATAL_ERROR "not forced inline and not in namespace tael::${ISA}:\n${leaks}")
endif()
