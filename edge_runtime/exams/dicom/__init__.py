"""An exam as DICOM objects, and the way of the objects to a PACS. Needs the extra `dicom`."""
