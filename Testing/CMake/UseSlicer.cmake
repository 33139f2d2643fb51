include(CTest)
include(CMakeParseArguments)

# Files are copied into the build tree under the names given, and that folder is installed: a name that begins with
# "../" is built and then missing from the package, as in Slicer.
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MODULE_UNPARSED_ARGUMENTS OR NOT MODULE_NAME)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: no NAME, or unknown ${MODULE_UNPARSED_ARGUMENTS}")
  endif()

  set(MODULE_FOLDER ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR})
  set(MODULE_INSTALLED ${MODULE_FOLDER}/)
  if(MODULE_WITH_SUBDIR)
    get_filename_component(MODULE_SUBDIR ${CMAKE_CURRENT_SOURCE_DIR} NAME)
    set(MODULE_FOLDER ${MODULE_FOLDER}/${MODULE_SUBDIR})
    set(MODULE_INSTALLED ${MODULE_FOLDER})
  endif()

  set(MODULE_COPIES)
  foreach(file ${MODULE_SCRIPTS} ${MODULE_RESOURCES})
    set(source ${CMAKE_CURRENT_SOURCE_DIR}/${file})
    if(NOT EXISTS ${source})
      message(FATAL_ERROR "slicerMacroBuildScriptedModule: ${source} does not exist")
    endif()
    add_custom_command(OUTPUT ${MODULE_FOLDER}/${file} DEPENDS ${source}
      COMMAND ${CMAKE_COMMAND} -E copy ${source} ${MODULE_FOLDER}/${file})
    list(APPEND MODULE_COPIES ${MODULE_FOLDER}/${file})
  endforeach()
  add_custom_target(Copy${MODULE_NAME} ALL DEPENDS ${MODULE_COPIES})

  install(DIRECTORY ${MODULE_INSTALLED} DESTINATION ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}
    COMPONENT RuntimeLibraries USE_SOURCE_PERMISSIONS)
endmacro()

macro(slicer_add_python_unittest)
  cmake_parse_arguments(UNITTEST "" "SCRIPT;TESTNAME_PREFIX" "SLICER_ARGS" ${ARGN})
  get_filename_component(UNITTEST_NAME ${UNITTEST_SCRIPT} NAME_WE)
  add_test(NAME py_${UNITTEST_TESTNAME_PREFIX}${UNITTEST_NAME}
    COMMAND ${Slicer_LAUNCHER_EXECUTABLE} ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/${UNITTEST_SCRIPT}
    --collected)
endmacro()
