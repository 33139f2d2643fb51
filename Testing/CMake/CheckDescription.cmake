# What Slicer needs to write an extension's description.
foreach(name HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  if("${EXTENSION_${name}}" STREQUAL "")
    message(SEND_ERROR "EXTENSION_${name} is empty")
  endif()
endforeach()
