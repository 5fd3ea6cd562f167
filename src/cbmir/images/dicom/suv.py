"""Standardised uptake values of PET by body weight, or why there are none.

SUVbw = activity (Bq/ml) x weight (g) / (dose x 2^(-(scan - injection) / half-life)); DICOM PS3.3 C.8.9.1, and the rules
of the Quantitative Imaging Biomarkers Alliance, https://qibawiki.rsna.org (Standardized Uptake Value).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from .elements import items_of, number_of, tag_value, text_of, to_numbers

DAY = timedelta(days=1)
PHILIPS, PHILIPS_GROUP = "Philips PET Private Group", 0x7053
SUV_FACTOR, ACTIVITY_FACTOR = 0x00, 0x09  # elements of that group
WEIGHTS = {"": "SUVbw", "BW": "SUVbw", "LBM": "SUVlbm", "LBMJAMES128": "SUVlbm", "LBMJANMA": "SUVlbm", "BSA": "SUVbsa"}


@dataclass(frozen=True)
class Suv:
    """factor: what rescaled values are multiplied with; phrase: what they are then."""

    phrase: str
    factor: float = 1.0


def read_suv(dataset: Dataset) -> Suv:
    """How the values of a PET image become SUV; factor 1 and a reason when they do not."""
    units = text_of(dataset, "Units").upper()
    if units == "GML":
        return Suv(WEIGHTS.get(text_of(dataset, "SUVType").upper(), "SUV of another kind"))
    if units == "CM2ML":
        return Suv("SUVbsa")
    if units == "BQML":
        return _from_activity(dataset, 1.0)
    if units == "CNTS":
        return _from_counts(dataset)
    return Suv("no SUV: units are neither Bq/ml nor counts" if units else "no SUV: units are missing")


def _from_counts(dataset: Dataset) -> Suv:
    """Only Philips says what its counts are: SUV, or activity."""
    direct = _philips(dataset, SUV_FACTOR)
    if direct:
        return Suv("SUVbw", direct)
    activity = _philips(dataset, ACTIVITY_FACTOR)
    return _from_activity(dataset, activity) if activity else Suv("counts, no SUV: no factor is given")


def _philips(dataset: Dataset, element: int) -> float | None:
    """A positive number of Philips' private group, in the block it has reserved; where it usually lies without one."""
    blocks = [block for block in range(0x10, 0x14) if _creator(dataset, block) == PHILIPS]
    for block in blocks or [0x10]:
        value = to_numbers(tag_value(dataset, Tag(PHILIPS_GROUP, block << 8 | element)), default=0.0)[0]
        if value > 0:
            return value
    return None


def _creator(dataset: Dataset, block: int) -> str:
    value = tag_value(dataset, Tag(PHILIPS_GROUP, block))
    return value.decode("ascii", "replace").strip("\0 ") if isinstance(value, bytes) else str(value).strip()


def _from_activity(dataset: Dataset, bq_per_ml: float) -> Suv:
    """bq_per_ml: of one unit of the rescaled values."""
    items = items_of(dataset, "RadiopharmaceuticalInformationSequence")
    dose_item = items[0] if items else Dataset()
    weight_kg, dose_bq = number_of(dataset, "PatientWeight"), number_of(dose_item, "RadionuclideTotalDose")
    if not weight_kg or weight_kg < 0:
        return Suv("Bq/ml, no SUV: weight is missing", bq_per_ml)
    if not dose_bq or dose_bq < 0:
        return Suv("Bq/ml, no SUV: dose is missing", bq_per_ml)
    correction = text_of(dataset, "DecayCorrection").upper()
    if correction not in ("START", "ADMIN"):
        return Suv("Bq/ml, no SUV: not corrected for decay", bq_per_ml)
    if correction == "START":
        half_life_s = number_of(dose_item, "RadionuclideHalfLife")
        if not half_life_s or half_life_s < 0:
            return Suv("Bq/ml, no SUV: half-life is missing", bq_per_ml)
        elapsed = _elapsed(dataset, dose_item)
        if elapsed is None:
            return Suv("Bq/ml, no SUV: times are missing", bq_per_ml)
        if not timedelta(0) <= elapsed < DAY:
            return Suv("Bq/ml, no SUV: times contradict each other", bq_per_ml)
        dose_bq *= 2.0 ** (-elapsed.total_seconds() / half_life_s)
    factor = bq_per_ml * weight_kg * 1000 / dose_bq if dose_bq else 0.0
    return Suv("SUVbw", factor) if 0 < factor < float("inf") else Suv("Bq/ml, no SUV: dose is missing", bq_per_ml)


def _elapsed(dataset: Dataset, dose_item: Dataset) -> timedelta | None:
    """From injection to the earliest time of the scan that the header has; None when one of them is missing.

    An injection known by its time of day alone was before the scan, if need be the day before.
    """
    pairs = (("SeriesDate", "SeriesTime"), ("AcquisitionDate", "AcquisitionTime"))
    scans = [time for pair in pairs if (time := _moment(*(text_of(dataset, name) for name in pair)))]
    if not scans:
        return None
    scan = min(scans)
    stamp = text_of(dose_item, "RadiopharmaceuticalStartDateTime")
    injected = _moment(stamp[:8], stamp[8:].split("+")[0].split("-")[0])
    if injected and timedelta(0) <= scan - injected < DAY:
        return scan - injected
    alone = _moment(scan.strftime("%Y%m%d"), text_of(dose_item, "RadiopharmaceuticalStartTime"))
    if alone is None:
        return scan - injected if injected else None
    return scan - alone if alone <= scan else scan - alone + DAY


def _moment(date: str, time: str) -> datetime | None:
    """A DICOM date and time; also as ACR-NEMA wrote them, 2004.01.19 and 12:30:00."""
    date, time = date.replace(".", ""), time.replace(":", "")
    whole, _, fraction = time.partition(".")
    try:
        start = datetime.strptime(date + whole[:6].ljust(6, "0"), "%Y%m%d%H%M%S") if whole else None
        return start + timedelta(seconds=float(f"0.{fraction or 0}")) if start else None
    except ValueError:
        return None
