# Stands for an installed Slicer in `find_package(Slicer)`: the variables and macros that this extension uses, with the
# behaviour that matters for what ends up in its package. Give -DSlicer_DIR=Testing/CMake.

set(Slicer_USE_PYTHONQT ON)
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-5.12/qt-scripted-modules)
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR ${Slicer_QTSCRIPTEDMODULES_LIB_DIR})
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/CheckDescription.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/CheckDescription.cmake)
find_program(Slicer_STAND_IN_PYTHON NAMES python3 python)
set(Slicer_LAUNCHER_EXECUTABLE ${Slicer_STAND_IN_PYTHON} ${CMAKE_CURRENT_LIST_DIR}/../Host/run_self_test.py)
