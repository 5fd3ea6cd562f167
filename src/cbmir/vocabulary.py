"""Closed vocabularies for the attributes of records: of what a file says, only words that this program knows are kept.

A scanner's text fields hold whatever somebody typed; a word that is on one of these lists names nobody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")


def _squeezed(text: str) -> str:
    return _NOT_ALPHANUMERIC.sub("", text).upper()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BODY_PARTS = _words(
    """
    ABDOMEN ABDOMENPELVIS ABDOMINALAORTA ACJOINT ADRENAL AMNIOTICFLUID ANKLE ANUSRECTUMSIGMD AORTA AORTICARCH APPENDIX
    ARM ARTERY ASCAORTA AXILLA BACK BILEDUCT BLADDER BONE BRACHIALPLEXUS BRAIN BREAST BRONCHUS BUTTOCK CALCANEUS CALF
    CAROTID CEREBELLUM CEREBRALA CERVIX CHEEK CHEST CHESTABDOMEN CHESTABDPELVIS CIRCLEOFWILLIS CLAVICLE COCCYX COLON
    COMMONILIACA CORNEA CORONARYARTERY CSPINE CTSPINE DESCAORTA DUODENUM EAR ELBOW ENDOARTERIAL ESOPHAGUS EXTREMITY
    EYE EYELID FACE FEMUR FETUS FIBULA FINGER FOOT FOREARM FOREFOOT GALLBLADDER GROIN HAND HEAD HEADNECK HEART
    HINDFOOT HIP HUMERUS IAC ILEUM ILIUM INGUINAL JAW JEJUNUM KIDNEY KNEE LARYNX LEG LIVER LOWERARM LOWERLEG LOWERLIMB
    LSPINE LSSPINE LUNG MANDIBLE MAXILLA MEDIASTINUM METACARPUS METATARSUS MOUTH NASALBONE NASOPHARYNX NECK NECKCHEST
    NECKCHESTABDOMEN NECKCHESTABDPELV NOSE OPTICCANAL ORBIT OVARY PANCREAS PARASTERNAL PARATHYROID PAROTID PATELLA
    PELVIS PELVISLOWEXTREMT PENIS PHARYNX PLACENTA PROSTATE PULMONARYARTERY RADIUS RADIUSULNA RECTUM RENALARTERY
    RETROPERITONEUM RIB SCALP SCAPULA SCLERA SCROTUM SELLA SHOULDER SIJOINT SINUS SKIN SKULL SMALLINTESTINE SPINALCORD
    SPINE SPLEEN SSPINE STERNOCLAVJT STERNUM STOMACH SUBMANDIBULAR TAIL TEMPBONE TEMPORALBONE TESTIS THIGH
    THORACICAORTA THUMB THYMUS THYROID TIBIA TIBIAFIBULA TLSPINE TMJ TOE TONGUE TOOTH TRACHEA TSPINE ULNA UMBILICUS
    UPPERARM UPPERLIMB URETER URETHRA UTERUS VAGINA VEIN VULVA WHOLEBODY WRIST ZYGOMA
    """
)
"""Defined terms of Body Part Examined (PS3.16 Annex L, the common ones), and a few that files use all the time."""

_BODY_PART_VARIANTS: Mapping[str, str] = MappingProxyType(
    {
        "ABD": "ABDOMEN",
        "ABDPELV": "ABDOMENPELVIS",
        "ABDPELVIS": "ABDOMENPELVIS",
        "ABDOMENANDPELVIS": "ABDOMENPELVIS",
        "ANKLEJOINT": "ANKLE",
        "BREASTS": "BREAST",
        "MAMMA": "BREAST",
        "CAP": "CHESTABDPELVIS",
        "CARDIAC": "HEART",
        "CERVICALSPINE": "CSPINE",
        "CHESTABD": "CHESTABDOMEN",
        "CHESTABDOMENPELVIS": "CHESTABDPELVIS",
        "CHESTTOPELVIS": "CHESTABDPELVIS",
        "THORAX": "CHEST",
        "THORAXABD": "CHESTABDOMEN",
        "ELBOWJOINT": "ELBOW",
        "EXTREMITIES": "EXTREMITY",
        "HEADANDNECK": "HEADNECK",
        "HIPJOINT": "HIP",
        "INTERNALAUDITORYCANAL": "IAC",
        "KIDNEYS": "KIDNEY",
        "KNEEJOINT": "KNEE",
        "LUMBARSPINE": "LSPINE",
        "LUMBOSACRALSPINE": "LSSPINE",
        "LUNGS": "LUNG",
        "NECKCHESTABDPELVIS": "NECKCHESTABDPELV",
        "OESOPHAGUS": "ESOPHAGUS",
        "ORBITS": "ORBIT",
        "RIBS": "RIB",
        "SACRUM": "SSPINE",
        "SINUSES": "SINUS",
        "SHOULDERJOINT": "SHOULDER",
        "TEETH": "TOOTH",
        "THORACICSPINE": "TSPINE",
        "THORACOLUMBARSPINE": "TLSPINE",
        "WHOLEBODYSCAN": "WHOLEBODY",
        "WB": "WHOLEBODY",
    }
)


def body_part(text: str) -> str:
    squeezed = _squeezed(text)
    squeezed = _BODY_PART_VARIANTS.get(squeezed, squeezed)
    return squeezed if squeezed in BODY_PARTS else ""


VENDORS: Mapping[str, str] = MappingProxyType(
    {
        "agfa": "agfa",
        "barco": "barco",
        "bruker": "bruker",
        "canon": "canon",
        "toshiba": "canon",  # Canon Medical Systems since 2018
        "carestream": "carestream",
        "kodak": "carestream",  # Eastman Kodak's since 2007
        "eastman kodak": "carestream",
        "carl zeiss": "zeiss",
        "zeiss": "zeiss",
        "del medical": "del medical",
        "eos imaging": "eos imaging",
        "esaote": "esaote",
        "fonar": "fonar",
        "fuji": "fujifilm",
        "fujifilm": "fujifilm",
        "fuji photo film": "fujifilm",
        "ge": "ge",
        "ge medical systems": "ge",
        "ge healthcare": "ge",
        "ge vingmed": "ge",
        "gems": "ge",
        "general electric": "ge",
        "heidelberg engineering": "heidelberg engineering",
        "hitachi": "hitachi",
        "hologic": "hologic",
        "lorad": "hologic",
        "konica": "konica minolta",
        "konica minolta": "konica minolta",
        "leica": "leica",
        "medison": "samsung",
        "mindray": "mindray",
        "neusoft": "neusoft",
        "nikon": "nikon",
        "olympus": "olympus",
        "philips": "philips",
        "adac": "philips",
        "marconi": "philips",
        "picker": "philips",
        "samsung": "samsung",
        "shimadzu": "shimadzu",
        "siemens": "siemens",
        "acuson": "siemens",
        "cti": "siemens",
        "sonosite": "fujifilm",
        "supersonic imagine": "hologic",
        "topcon": "topcon",
        "united imaging": "united imaging",
        "uih": "united imaging",
        "varian": "varian",
    }
)
"""What a Manufacturer begins with, in words, and who that is."""


def vendor(text: str) -> str:
    """The vendor of a Manufacturer by its first words; nothing where that is none we know."""
    words = _NOT_ALPHANUMERIC.sub(" ", text).casefold().split()
    for n_words in (3, 2, 1):
        name = VENDORS.get(" ".join(words[:n_words]))
        if name:
            return name
    return ""


MODALITIES = _words(
    """
    ANN AR ASMT AU BDUS BI BMD CD CF CFM CP CR CS CT CTPROTOCOL DD DF DG DM DMS DOC DS DX EC ECG EEG EMG EOG EPS ES FA
    FID FS GM HC HD IO IOL IVOCT IVUS KER KO LEN LP LS M3D MA MG MR MS NM OAM OCT OP OPM OPR OPT OPTBSV OPTENF OPV OSS
    OT PA PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM
    SMR SR SRF ST STAIN TEXTUREMAP TG US VA VF VFD XA XC XAPROTOCOL
    """
)
"""PS3.3 C.7.3.1.1.1, with the retired ones."""

VIEW_POSITIONS = _words(
    """
    AP PA LL RL LLD RLD LLO RLO RAO LAO RPO LPO LATERAL LAT OBL OBLIQUE AXIAL CC MLO ML LM XCC XCCL XCCM FB LMO SIO
    ISO CV AT TAN RM RML RMR RI RS SPECIMEN ERECT DECUBITUS SUPINE PRONE SWIMMERS SUNRISE TOWNE WATERS CALDWELL FROG
    MANDIBULAR MAXILLARY TUNNEL OPENMOUTH FLEXION EXTENSION
    """
)
"""PS3.3 C.8.1.1 (CR), C.8.11.5 (DX), PS3.16 CID 4014 (mammography), and radiographic views that files spell out."""

IMAGE_TYPES = _words(
    """
    ORIGINAL DERIVED PRIMARY SECONDARY AXIAL LOCALIZER CORONAL SAGITTAL OBLIQUE MPR PROJECTION REFORMATTED RESAMPLED
    SCOUT TOPOGRAM VOLUME CINE STATIC DYNAMIC GATED TOMO RECON WHOLE BODY MPPS M P R I PHASE MAG MAGNITUDE REAL
    IMAGINARY FFE SE IR TSE FSE EPI ADC DIFFUSION FA TRACEW EADC PERFUSION CBF CBV MTT TTP MIP MINIP MAX_IP MIN_IP
    AVERAGE MEAN SUBTRACTION SUB NORM DIS2D DIS3D ND SCREENSAVE SAVE NONE OTHER MIXED SINGLE BIPLANE A B EMISSION
    TRANSMISSION ATTENUATION ACQUISITION_MATRIX ANGIO CARDIAC FLUOROSCOPY STRESS REST T1 T2 T2_STAR PROTON_DENSITY
    QUANTITATIVE TOMOSYNTHESIS GENERATED_2D PHOTO COLOR STEREO FILTERED SEGMENTED FUSED RECONSTRUCTED OUT_OF_PHASE
    IN_PHASE WATER FAT MONOCHROMATIC MONO POST_CONTRAST PRE_CONTRAST
    """
)
"""Values of Image Type that standard and vendors use to say what was done to the pixels."""

PHOTOMETRIC = _words(
    """
    MONOCHROME1 MONOCHROME2 RGB ARGB CMYK HSV YBR_FULL YBR_FULL_422 YBR_PARTIAL_420 YBR_PARTIAL_422 YBR_ICT YBR_RCT
    XYB
    """
) | {"PALETTE COLOR"}

_SOP_CLASS_WORDS = _words(
    """
    2D 3D 8 16 32-bit - Acquisition Angiographic Arterial Axial B-scan Bi-Plane Bit Body Breast Byte C-Arm CT Capture
    Color Computed Confocal Converted Corneal Defined Dermoscopic Digital Dose Echo Emission En Endoscopic Enhanced
    Face Field For Grayscale Grid Hardcopy Image Intra-Oral Intravascular Legacy MR Macular Mammography Map Medicine
    Microscopic Microscopy Multi-frame Multiple Nuclear Ophthalmic Optical PET Palette Parametric Photoacoustic
    Photographic Photography Planar Plane Positron Presentation Processing Projection Pyramidal RT Radiofluoroscopic
    Radiography Resonance SC Scanning Secondary Segmentation Single Slide Slide-Coordinates Spectroscopy Stereometric
    Storage Surface Thickness Tiled Tomography Tomosynthesis Trial True US Ultrasound VL Video Volume Whole Wide Word
    X-Ray XA XA/XRF XRF and Coherence Continuous Coordinates Craniofacial Stereographic
    """
)


def sop_class(text: str) -> str:
    """The dictionary's name of a storage class; nothing that has another word in it."""
    words = text.split()
    return text if "Storage" in words and _SOP_CLASS_WORDS.issuperset(words) else ""


def one_of(terms: frozenset[str]) -> Callable[[str], str]:
    """Keeps a term as it stands in the list, whatever its case."""
    return lambda text: text.upper() if text.upper() in terms else ""


def _known_parts(text: str) -> str:
    """The known ones of several values."""
    parts = [part.strip().upper() for part in text.split("\\")]
    return "\\".join(part for part in parts if part in IMAGE_TYPES)


VOCABULARIES: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "BodyPartExamined": body_part,
        "ImageLaterality": one_of(_words("L R B U")),
        "ImageType": _known_parts,
        "Laterality": one_of(_words("L R B U")),
        "Manufacturer": vendor,
        "Modality": one_of(MODALITIES),
        "PatientSex": one_of(_words("M F O")),
        "PhotometricInterpretation": one_of(PHOTOMETRIC),
        "SOPClassUID": sop_class,
        "ViewPosition": one_of(VIEW_POSITIONS),
    }
)
"""DICOM keyword -> what is kept of its text: a term of a closed list, or nothing ('')."""

_WHOLE = {"Columns": 5, "InstanceNumber": 6, "Rows": 5}
"""DICOM keyword -> the most digits of its number that are kept: too few for a hospital number."""

_LENGTHS = {"PixelSpacing": 2, "SliceThickness": 1}
"""DICOM keyword -> how many lengths in mm it has."""

_LONGEST_MM = 1000.0
_DECIMAL = re.compile(r"\+?(?:[0-9]{1,12}\.?[0-9]{0,14}|\.[0-9]{1,14})(?:[eE][+-]?[0-9]{1,2})?")
_AGE = re.compile(r"([0-9]{3})([DWMY])")
_DATE = re.compile(r"((?:19|20)[0-9]{2})[0-9]{4}")


def known(keyword: str, text: str) -> str:
    """What a record may keep of an attribute's text: '' for nothing. Ages become a decade (40-49), dates a year."""
    if keyword == "PatientAge":
        return _age_band(text)
    if keyword == "StudyDate":
        match = _DATE.fullmatch(text)
        return match[1] if match else ""
    if keyword in _WHOLE:
        return text if text.isascii() and text.isdigit() and len(text) <= _WHOLE[keyword] else ""
    if keyword in _LENGTHS:
        lengths = [_length(part.strip()) for part in text.split("\\")]
        return "\\".join(lengths) if all(lengths) and len(lengths) == _LENGTHS[keyword] else ""
    vocabulary = VOCABULARIES.get(keyword)
    return vocabulary(text) if vocabulary else ""


def _length(text: str) -> str:
    """A length below a metre in micrometres: a date or a hospital number has more digits than are left."""
    if not _DECIMAL.fullmatch(text) or not float(text) < _LONGEST_MM - 0.0005:
        return ""
    return f"{float(text):.3f}".rstrip("0").rstrip(".")


def _age_band(text: str) -> str:
    """DICOM age string (PS3.5 6.2, AS) to a decade; 90 and above are one band."""
    match = _AGE.fullmatch(text)
    if not match:
        return ""
    years = int(match[1]) if match[2] == "Y" else 0
    if years >= 90:
        return "90+"
    decade = years // 10 * 10
    return f"{decade}-{decade + 9}"
