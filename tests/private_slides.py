"""A folder of slides as a hospital has it: full of names, dates and stickers that must not travel."""

import csv
import json
import uuid
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from made_slides import aperio_slide, label, macro
from painted_tissue import Box, scene
from PIL import Image

PATIENTS = (
    *("Mustermann^Erika", "Grünspecht^Jürgen", "Falkenberg^Ottilie", "Haselnuss^Leopold"),
    *("Birkenstein^Adelheid", "Quittenbaum^Friedolin"),
)
SITES = ("Klinikum Beispielstadt", "Waldkrankenhaus Musterau")
DOCTOR = "Dr. Federkiel"
DATES = ("%Y-%m-%d", "%d.%m.%Y", "%m/%d/%y")
LEFT, RIGHT = Box(64, 64, 256, 320), Box(352, 64, 544, 320)  # no two tiles of the repeated texture are equal
CLASSES = {"epithelium": LEFT, "stroma": RIGHT}


class Ward(NamedTuple):
    """What lies on disk, and all that points to a person in it."""

    slides: Path
    table: Path
    names: tuple[str, ...]  # of patients and of files
    properties: tuple[str, ...]  # values written into the slides
    others: tuple[str, ...]  # dates, sites, ids and remarks in the table and the annotations


def ward(folder: Path) -> Ward:
    """Write seven slides of six patients with a table and annotations; some of it is out of order, as ever."""
    slides = folder / "Abteilung Rosenweg" / "Weidenbusch-Studie"
    slides.mkdir(parents=True)
    rows: list[list[Any]] = []
    files, properties, others = list[str](), list[str](), [DOCTOR, *SITES]
    for number, patient in enumerate((*PATIENTS, PATIENTS[0])):
        case = f"S21-{47110 + number}"
        path = slides / f"{patient.replace('^', '_')} {case}.svs"
        private = of_person(patient, case, number)
        aperio_slide(path, scene(640, 384, (LEFT, RIGHT), seed=number), private=private)
        born, seen = date(1957, 8, 12 + number), date(2021, 3, 14 + number)
        rows.append([path.name, patient, SITES[number % 2], "stroma", born, f"{seen:%d.%m.%Y}"])
        files += [path.name, case]
        properties += private.values()
        others += [f"{day:{form}}" for day in (born, seen) for form in DATES] + [f"Spätbefund {number}"]
        if number < len(PATIENTS):  # the last is told by the table alone
            drawn = annotation(patient, number)
            path.with_suffix(".geojson").write_text(json.dumps(drawn, ensure_ascii=number % 2 == 0))
            others += [feature["id"] for feature in drawn["features"]]
    files += out_of_order(slides, rows)
    table = slides.parent / "Patientenliste.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "patient", "site", "label", "born", "seen"])
        writer.writerows(rows)
    return Ward(slides, table, (*PATIENTS, *files), tuple(properties), tuple(others))


def of_person(patient: str, case: str, number: int) -> dict[str, str]:
    """Properties as Aperio's scanners write them; ASCII, as TIFF has it."""
    name = patient.encode("ascii", "replace").decode().upper()
    return {
        "Filename": f"{name}-{case}",
        "Date": f"{date(2021, 3, 14 + number):%m/%d/%y}",
        "Time": f"09:26:{53 - number}",
        "User": str(uuid.uuid5(uuid.NAMESPACE_OID, f"user {number}")),
        "ScanScope ID": f"SS7061CNTLR{number}",
        "Title": f"Quarzuhr {case}",
    }


def annotation(patient: str, number: int) -> dict[str, Any]:
    """Both classes, drawn in QuPath by somebody who writes names everywhere, and a remark without a class."""
    features = []
    for name, box in (*CLASSES.items(), (None, LEFT)):
        corners = [[box.left, box.top], [box.right, box.top], [box.right, box.bottom], [box.left, box.bottom]]
        properties: dict[str, Any] = {"objectType": "annotation", "name": f"{patient}, Spätbefund {number}, {DOCTOR}"}
        properties |= {"classification": {"name": name}} if name else {}
        features.append(
            {
                "type": "Feature",
                "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number} {name}")),
                "geometry": {"type": "Polygon", "coordinates": [[*corners, corners[0]]]},
                "properties": properties | {"metadata": {"Patient": patient}},
            }
        )
    return {"type": "FeatureCollection", "features": features}


def out_of_order(slides: Path, rows: list[list[Any]]) -> list[str]:
    """Add exported pictures of label and glass, an empty slide, one whose annotation is broken and quotes a patient,
    and a row whose slide is gone; returns the names of the files.
    """
    shown = scene(640, 384, (LEFT, RIGHT), seed=99)
    Image.fromarray(label()).save(slides / "Mustermann_Erika_label.png")
    Image.fromarray(macro(shown)).save(slides / "Mustermann_Erika_macro.jpg")
    (slides / "Leerstelle S21-47200.svs").write_bytes(b"")
    aperio_slide(slides / "Bruchstueck S21-47201.svs", shown)
    broken = {"features": [{"type": "Falter", "id": "Mustermann^Erika 12.08.1957"}]}
    (slides / "Bruchstueck S21-47201.geojson").write_text(json.dumps(broken))
    names = ["Leerstelle S21-47200.svs", "Bruchstueck S21-47201.svs", "Verschollen S21-47202.svs"]
    rows += [[name, PATIENTS[1], SITES[1], "stroma", "1957-08-13", "13.03.2021"] for name in names]
    return [*names, "Mustermann_Erika_label.png", "Mustermann_Erika_macro.jpg"]
