"""The classes that label maps of known data sets are read as."""

from __future__ import annotations

import numpy as np

from primum.errors import UserError

NONE = -1  # of a class map: a pixel that counts nowhere

# COCO-Stuff's 182 category ids by supercategory, in the order that IIC, PiCIE and STEGO number them
COCO_STUFF_27 = {
    "electronic": "72-77",
    "appliance": "78-83",
    "food": "52-61",
    "furniture": "62-71",
    "indoor": "84-91",
    "kitchen": "44-51",
    "accessory": "26-33",
    "animal": "16-25",
    "outdoor": "10-15",
    "person": "1",
    "sports": "34-43",
    "vehicle": "2-9",
    "ceiling_stuff": "102-103",
    "floor_stuff": "101 114-118",
    "food_stuff": "121-122 153 170",
    "furniture_stuff": "98 107-108 110 112 123 130 133 156 161 165",
    "raw_material_stuff": "100 132 139 143",
    "textile_stuff": "92-93 104-105 109 131 137 141 152 167-168",
    "wall_stuff": "171-177",
    "window_stuff": "180-181",
    "building_stuff": "95-96 128 151 158 166",
    "ground_stuff": "111 125-126 136 140 144-145 147 149 154 159",
    "plant_stuff": "94 97 119 124 129 134 142 163 169",
    "sky_stuff": "106 157",
    "solid_stuff": "127 135 150 160 162 182",
    "structural_stuff": "99 113 138 146 164",
    "water_stuff": "120 148 155 178-179",
}

# Cityscapes' label ids 7..33 are its 27 classes; these 19 of them are its own benchmark's
CITYSCAPES_19 = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def ids(text: str) -> list[int]:
    """Numbers and ranges of numbers.

    >>> ids("3 7-9")
    [3, 7, 8, 9]
    """
    found: list[int] = []
    for part in text.split():
        low, _, high = part.partition("-")
        found += range(int(low), int(high or low) + 1)
    return found


def class_table(name: str) -> tuple[np.ndarray, int]:
    """(65536,) class of each pixel value, `NONE` where it has none, and the number of classes.

    Args:
        name: `coco_stuff_27` (stuffthingmaps: category id minus one, 255 for none),
            `cityscapes_27` or `cityscapes_19` (labelIds), or a number of classes that pixels
            already hold.

    Raises:
        UserError: There is no such set of classes.
    """
    table = np.full(2**16, NONE, np.int64)
    if name == "coco_stuff_27":
        for number, text in enumerate(COCO_STUFF_27.values()):
            table[np.array(ids(text)) - 1] = number
        return table, len(COCO_STUFF_27)
    if name == "cityscapes_27":
        table[7:34] = np.arange(27)
        return table, 27
    if name == "cityscapes_19":
        table[list(CITYSCAPES_19)] = np.arange(19)
        return table, 19
    if str(name).isdigit() and int(name) > 0:
        table[: int(name)] = np.arange(int(name))
        return table, int(name)
    raise UserError(
        f"There is no set of classes {name!r}",
        remedy="use coco_stuff_27, cityscapes_27, cityscapes_19 or a number of classes",
    )
