"""PET values become standardised uptake values, or it is said why not. All numbers can be checked by head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from cbmir.types import Window
from make_dicom import make_dicom, sequence_item
from reading import read_one

ACTIVITY = np.array([[0, 1000]], dtype=np.uint16)


def pet(injection: dict[str, Any] | None = None, **elements: Any) -> Dataset:
    """1000 Bq/ml in a patient of 80 kg; 160 MBq with a half-life of one hour, injected two hours before the scan.

    So 40 MBq are left: 1000 Bq/ml x 80 000 g / 40 000 000 Bq = 2.
    """
    dose = {
        "RadionuclideTotalDose": "160000000",
        "RadionuclideHalfLife": "3600",
        "RadiopharmaceuticalStartTime": "100000",
        **(injection or {}),
    }
    item = sequence_item(**{keyword: value for keyword, value in dose.items() if value is not None})
    known = {
        "Modality": "PT",
        "Units": "BQML",
        "DecayCorrection": "START",
        "PatientWeight": "80",
        "SeriesDate": "20200301",
        "SeriesTime": "120000",
        "RescaleSlope": "1",
        "RescaleIntercept": "0",
        "RadiopharmaceuticalInformationSequence": [item],
        **elements,
    }
    return make_dicom(ACTIVITY, **{keyword: value for keyword, value in known.items() if value is not None})


def suv(dataset: Dataset) -> tuple[float, str | None]:
    image = read_one(dataset)
    return float(image.pixels[0, 1]), image.provenance.values


def test_the_dose_left_at_the_scan_divides_the_activity() -> None:
    assert suv(pet()) == (2, "SUVbw")


def test_the_rescale_comes_first() -> None:
    assert suv(pet(RescaleSlope="2")) == (4, "SUVbw")


def test_windows_of_the_header_become_suv_too() -> None:
    """LINEAR from 1000.5 - 0.5 - 1000 to 1000.5 - 0.5 + 1000 Bq/ml (PS3.3 C.11.2.1.2.1) is 0 to 4 SUV."""
    assert read_one(pet(WindowCenter=1000.5, WindowWidth=2001)).windows == (Window(2, 4, "LINEAR_EXACT"),)
    sigmoid = pet(WindowCenter=1000, WindowWidth=2000, VOILUTFunction="SIGMOID")
    assert read_one(sigmoid).windows == (Window(2, 4, "SIGMOID"),)


def test_with_activity_at_the_injection_nothing_decays() -> None:
    """1000 x 80 000 / 160 000 000 = 0.5"""
    assert suv(pet(DecayCorrection="ADMIN")) == (0.5, "SUVbw")
    assert suv(pet({"RadionuclideHalfLife": None}, DecayCorrection="ADMIN")) == (0.5, "SUVbw")


def test_an_injection_before_midnight_was_the_day_before() -> None:
    assert suv(pet({"RadiopharmaceuticalStartTime": "230000"}, SeriesTime="010000")) == (2, "SUVbw")


def test_a_full_date_of_the_injection_is_used() -> None:
    injection = {"RadiopharmaceuticalStartDateTime": "20200229230000", "RadiopharmaceuticalStartTime": None}
    assert suv(pet(injection, SeriesTime="010000")) == (2, "SUVbw")


def test_a_shifted_date_of_the_injection_is_not_believed_when_there_is_a_time() -> None:
    """De-identification moves some dates and not others."""
    assert suv(pet({"RadiopharmaceuticalStartDateTime": "20150101100000"})) == (2, "SUVbw")


def test_the_earliest_time_of_the_scan_counts() -> None:
    """A late bed position is corrected to the start of the series."""
    assert suv(pet(AcquisitionDate="20200301", AcquisitionTime="130000")) == (2, "SUVbw")
    assert suv(pet(AcquisitionDate="20200301", AcquisitionTime="120000", SeriesTime="180000")) == (2, "SUVbw")


@pytest.mark.parametrize(
    ("injection", "elements", "reason"),
    [
        ({}, {"PatientWeight": None}, "weight is missing"),
        ({}, {"PatientWeight": "0"}, "weight is missing"),
        ({"RadionuclideTotalDose": "0"}, {}, "dose is missing"),
        ({}, {"RadiopharmaceuticalInformationSequence": None}, "dose is missing"),
        ({"RadionuclideHalfLife": None}, {}, "half-life is missing"),
        ({"RadiopharmaceuticalStartTime": None}, {}, "times are missing"),
        ({}, {"SeriesTime": None}, "times are missing"),
        ({}, {"DecayCorrection": "NONE"}, "not corrected for decay"),
        ({}, {"DecayCorrection": None}, "not corrected for decay"),
        (
            {"RadiopharmaceuticalStartTime": None, "RadiopharmaceuticalStartDateTime": "20150101100000"},
            {},
            "times contradict each other",
        ),
    ],
)
def test_what_is_missing_is_said_and_the_activity_kept(
    injection: dict[str, Any], elements: dict[str, Any], reason: str
) -> None:
    assert suv(pet(injection, **elements)) == (1000, f"Bq/ml, no SUV: {reason}")


@pytest.mark.parametrize(
    ("units", "kind", "phrase"),
    [
        ("GML", None, "SUVbw"),
        ("GML", "BW", "SUVbw"),
        ("GML", "LBM", "SUVlbm"),
        ("CM2ML", None, "SUVbsa"),
        ("PROPCPS", None, "no SUV: units are neither Bq/ml nor counts"),
        (None, None, "no SUV: units are missing"),
    ],
)
def test_other_units_are_left_as_they_are(units: str | None, kind: str | None, phrase: str) -> None:
    assert suv(pet(Units=units, SUVType=kind)) == (1000, phrase)


def philips(block: int = 0x10, **factors: str) -> Dataset:
    dataset = pet(Units="CNTS")
    dataset.add_new((0x7053, block), "LO", "Philips PET Private Group")
    for name, value in factors.items():
        dataset.add_new((0x7053, block << 8 | {"suv": 0x00, "activity": 0x09}[name]), "DS", value)
    return dataset


@pytest.mark.parametrize("block", [0x10, 0x11])
def test_philips_counts_have_a_factor(block: int) -> None:
    assert suv(philips(block, suv="0.003")) == (3, "SUVbw")


def test_philips_counts_may_have_an_activity_factor_instead() -> None:
    """1000 counts are 2000 Bq/ml."""
    assert suv(philips(activity="2")) == (4, "SUVbw")
    assert suv(philips(suv="0", activity="2")) == (4, "SUVbw")


def test_counts_without_a_factor_stay_counts() -> None:
    assert suv(philips()) == (1000, "counts, no SUV: no factor is given")
