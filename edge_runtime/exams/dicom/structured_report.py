"""The decisions of an exam as a TID 1500 Measurement Report (DICOM PS3.16), in Comprehensive 3D SR.

Each nodule is a measurement group (TID 1410) with the box in the best picture of the nodule. The
report is UNVERIFIED and PRELIMINARY, and PARTIAL for an exam that was interrupted.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    GraphicTypeValues,
    ImageRegion,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementProperties,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage
from pydicom.valuerep import DT

from devices import Box
from edge_runtime.exams.dicom import codes
from edge_runtime.exams.dicom.header import (
    CHARACTER_SET,
    MANUFACTURER,
    accession_number,
    begin_object,
    moment_of,
    series_description,
)
from edge_runtime.exams.identifiers import exam_uid
from edge_runtime.exams.report import (
    common_reason,
    exam_explanation,
    exam_warnings,
    no_nodule_sentence,
    nodule_sentence,
    result_of,
)
from edge_runtime.exams.store import Exam, ExamDecision, ExamNodule, KeptStill
from edge_runtime.results.result import NOTICE

REPORT_SERIES = ("report", 2, "Report")
"""Role, number and description of the series."""
MAX_COMMENT = 1000
"""Letters of one text of the report."""
_Group = PlanarROIMeasurementsAndQualitativeEvaluations | MeasurementsAndQualitativeEvaluations


def report_object(
    exam: Exam,
    nodules: list[ExamNodule],
    decisions: list[ExamDecision],
    pictures: list[tuple[KeptStill, Dataset]],
) -> Dataset:
    """The report of an exam. `pictures` are the objects of the kept pictures, without pixels."""
    algorithm = _algorithm(exam)
    groups = [_nodule_group(exam, nodule, pictures, algorithm) for nodule in nodules]
    images = [image for _, image in pictures]
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(exam)),
        procedure_reported=codes.PROCEDURE,
        imaging_measurements=groups or [_empty_group(exam, decisions, algorithm)],
        title=codes.REPORT_TITLE,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(codes.ENGLISH),
        referenced_images=images or None,
    )
    items = content[0].ContentSequence
    _set_modality(items)
    place = next(index for index, item in enumerate(items) if item.ValueType == "CONTAINER")
    items.insert(place, _text(codes.NOTICE_NAME, f"{NOTICE[0].upper()}{NOTICE[1:]}."))
    for line in reversed([*_remarks(exam), *exam_explanation(exam)]):
        items.insert(place + 1, _text(codes.COMMENT, line))
    ended = moment_of(exam.last)
    frame = begin_object(
        exam, SecondaryCaptureImageStorage, exam_uid(exam, "report"), REPORT_SERIES, ended, 1
    )
    report = Comprehensive3DSR(
        evidence=images or [frame],
        content=content,
        series_instance_uid=frame.SeriesInstanceUID,
        series_number=frame.SeriesNumber,
        sop_instance_uid=frame.SOPInstanceUID,
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=not exam.interrupted,
        record_evidence=False,
        coding_schemes=[codes.OWN_CODES],
        series_description=series_description(REPORT_SERIES[2]),
        manufacturer_model_name=frame.ManufacturerModelName,
        device_serial_number=frame.DeviceSerialNumber,
        software_versions=frame.SoftwareVersions,
        specific_character_set=CHARACTER_SET,
    )
    # The moments are those of the exam, so that the same report is made again.
    for name in ("InstanceCreation", "Content"):
        for part in ("Date", "Time"):
            setattr(report, name + part, getattr(frame, name + part))
    for item in report.ContributingEquipmentSequence:
        item.ContributionDateTime = DT(ended)
    report.TimezoneOffsetFromUTC = frame.TimezoneOffsetFromUTC
    return report


def _set_modality(items: Iterable[Dataset]) -> None:
    """Says of each picture what the picture says; highdicom takes a capture for another kind."""
    for item in items:
        if item.ConceptNameCodeSequence[0] == codes.MODALITY:
            item.ConceptCodeSequence = [codes.ULTRASOUND]
        _set_modality(item.get("ContentSequence", ()))


def _observer(exam: Exam) -> ObserverContext:
    """Who decided: this software on that machine."""
    made = exam.provenance
    return ObserverContext(
        codes.DEVICE,
        DeviceObserverIdentifyingAttributes(
            uid=exam_uid(exam, "observer"),
            name=made.software,
            manufacturer_name=MANUFACTURER,
            model_name=f"{made.bundle} {made.version}",
            physical_location=made.device,
        ),
    )


def _algorithm(exam: Exam) -> AlgorithmIdentification:
    made = exam.provenance
    return AlgorithmIdentification(
        name=made.bundle,
        version=str(made.version),
        parameters=[
            f"sha256 of the manifest of the bundle: {made.digest}",
            *(f"prevalence of {label}: {share:g}" for label, share in made.prevalence.items()),
        ],
        family=codes.ALGORITHM_FAMILY,
        manufacturer=MANUFACTURER,
    )


def _remarks(exam: Exam) -> Iterator[str]:
    """What a reader has to know, and what DICOM has no room for."""
    yield from exam_warnings(exam)
    if exam.identity.accession and accession_number(exam) is None:
        yield f"The accession number was typed as {exam.identity.accession}, too long for DICOM."


def _nodule_group(
    exam: Exam,
    nodule: ExamNodule,
    pictures: list[tuple[KeptStill, Dataset]],
    algorithm: AlgorithmIdentification,
) -> _Group:
    """One nodule: the label or the reason, probabilities with their bounds, and the box."""
    tracking = TrackingIdentifier(
        exam_uid(exam, f"nodule {nodule.number}"), f"Nodule {nodule.number}"
    )
    measurements = [*_measurements(exam, nodule)]
    evaluations = [*_evaluations(nodule.label, nodule.reason)]
    region = _region(nodule, pictures)
    group: _Group
    if region is None:
        group = MeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking,
            finding_type=codes.NODULE,
            algorithm_id=algorithm,
            measurements=measurements,
            qualitative_evaluations=evaluations,
        )
        place = "No kept picture tells where it lies."
    else:
        image, box = region
        group = PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking,
            referenced_region=_rectangle(box, image),
            finding_type=codes.NODULE,
            algorithm_id=algorithm,
            measurements=measurements,
            qualitative_evaluations=evaluations,
        )
        place = f"The box is in picture {image.InstanceNumber}."
    words = f"{nodule_sentence(exam, nodule)} {place}"
    group[0].ContentSequence.append(_text(codes.COMMENT, words))
    return group


def _measurements(exam: Exam, nodule: ExamNodule) -> Iterator[Measurement]:
    for label, chance in nodule.probability.items():
        properties = None
        if nodule.interval is not None:
            low, high = nodule.interval[label]
            properties = MeasurementProperties(
                upper_measurement_uncertainty=_rounded(max(0.0, high - chance)),
                lower_measurement_uncertainty=_rounded(max(0.0, chance - low)),
            )
        name = codes.probability_name(label)
        yield Measurement(name, _rounded(chance), codes.NO_UNIT, properties=properties)
    for label, threshold in exam.provenance.thresholds.items():
        yield Measurement(codes.threshold_name(label), _rounded(threshold), codes.NO_UNIT)


def _evaluations(label: str | None, reason: str | None) -> Iterator[QualitativeEvaluation]:
    if label is not None:
        yield QualitativeEvaluation(codes.CLASSIFICATION, codes.label_code(label))
        return
    yield QualitativeEvaluation(codes.CLASSIFICATION, codes.NOT_ASSESSABLE)
    if reason is not None:
        yield QualitativeEvaluation(codes.REASON_NAME, codes.reason_code(reason))


def _empty_group(
    exam: Exam, decisions: list[ExamDecision], algorithm: AlgorithmIdentification
) -> _Group:
    """The exam as a whole, where no nodule was judged."""
    reason = common_reason(decisions)
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(exam_uid(exam, "exam"), f"Exam {exam.id}"),
        algorithm_id=algorithm,
        qualitative_evaluations=[*_evaluations(None, reason)],
    )
    group[0].ContentSequence.append(_text(codes.COMMENT, no_nodule_sentence(reason)))
    return group


def _region(
    nodule: ExamNodule, pictures: list[tuple[KeptStill, Dataset]]
) -> tuple[Dataset, Box] | None:
    """A picture that shows a nodule, with the box there: the best one where there is a choice."""
    ranked = sorted(pictures, key=lambda pair: pair[0].nodule != nodule.number)
    for still, image in ranked:
        result = result_of(still)
        if result is None:
            continue
        for each in result.nodules:
            if (result.file, each.track) == (nodule.file, nodule.track):
                return image, each.box
    return None


def _rectangle(box: Box, image: Dataset) -> ImageRegion:
    """A closed line around a box; the corners lie within the picture, as of its pixels' edges."""
    left, right = (min(max(x, 0), image.Columns) for x in (box.x, box.x + box.w))
    top, bottom = (min(max(y, 0), image.Rows) for y in (box.y, box.y + box.h))
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return ImageRegion(
        GraphicTypeValues.POLYLINE,
        np.array(corners, np.float32),
        SourceImageForRegion.from_source_image(image),
    )


def _text(name: CodedConcept, words: str) -> TextContentItem:
    return TextContentItem(name, words[:MAX_COMMENT], RelationshipTypeValues.CONTAINS)


def _rounded(number: float) -> float:
    return round(float(number), 6)
