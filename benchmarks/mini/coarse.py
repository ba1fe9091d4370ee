"""Everyday words as sets of ImageNet classes: the coarse label space.

ImageNet names 118 breeds but has no "dog". A coarse word learns from the teacher: its probability is
the sum over the classes listed here (ImageNet class numbers, ends included). The sets are disjoint.
The CLIP text feature of a word must be known; the first entry is its name in the public lists.
ImageNet has no deer; antelopes replace them.
"""

from __future__ import annotations

import torch
from torch import Tensor

COARSE: dict[str, tuple[str, str]] = {
    "airplane": ("airplane", "404 895"),
    "apple": ("apple", "948"),
    "bear": ("bear", "294-297"),
    "bed": ("bed", "564 520"),
    "beetle": ("beetle", "300-307"),
    "bicycle": ("bicycle", "444 671"),
    "bird": ("bird", "7-24 80-83 85-97 127-143 146"),
    "boat": ("boat", "472 554 576 625 814"),
    "bottle": ("bottle", "440 737 898 907"),
    "bowl": ("bowl", "659 809"),
    "bridge": ("bridge", "821 839 888"),
    "building": ("building", "483 497 663 668 698 832"),
    "bus": ("bus", "654 779 874"),
    "butterfly": ("butterfly", "321-326"),
    "camel": ("camel", "354"),
    "car": ("car", "436 468 511 609 627 656 661 751 817"),
    "cat": ("cat", "281-285"),
    "chair": ("chair", "423 559 765 857"),
    "clock": ("clock", "409 530 892"),
    "couch": ("couch", "831"),
    "cow": ("cow", "345 346 690"),
    "crab": ("crab", "118-121"),
    "crocodile": ("crocodile", "49 50"),
    "cup": ("cup", "504 968"),
    "deer": ("deer", "351-353"),
    "dinosaur": ("dinosaur", "51"),
    "dog": ("dog", "151-268"),
    "elephant": ("elephant", "385 386"),
    "fish": ("fish", "0 1 389-397"),
    "flower": ("flower", "984-986"),
    "fox": ("fox", "277-280"),
    "frog": ("frog", "30-32"),
    "furniture": ("furniture", "453 495 526 532"),
    "gun": ("gun", "413 763 764"),
    "hamster": ("hamster", "338"),
    "hat": ("hat", "439 452 515 808"),
    "helmet": ("helmet", "518 560 715"),
    "horse": ("horse", "339"),
    "keyboard": ("keyboard", "508 878 810"),
    "lamp": ("lamp", "619 846"),
    "leopard": ("leopard", "288-290"),
    "lion": ("lion", "291"),
    "lizard": ("lizard", "38-48"),
    "lobster": ("lobster", "122-124"),
    "monkey": ("monkey", "369-382"),
    "motorcycle": ("motorcycle", "665 670"),
    "mountain": ("mountain", "970 972 979 980"),
    "mushroom": ("mushroom", "947 991-997"),
    "musical instrument": ("musical instrument", "401 432 486 513 558 566 683 776 875 889"),
    "orange": ("orange", "950"),
    "otter": ("otter", "360"),
    "pepper": ("bell pepper", "945"),
    "person": ("person", "981-983"),
    "pig": ("pig", "341-343"),
    "plate": ("plate", "923"),
    "porcupine": ("porcupine", "334"),
    "rabbit": ("rabbit", "330-332"),
    "seal": ("sea lion", "150"),
    "shark": ("shark", "2-4"),
    "sheep": ("sheep", "348 349"),
    "ship": ("ship", "403 510 628 724 780 833 913 914"),
    "shirt": ("shirt", "610 841"),
    "shoe": ("shoe", "514 630 770 774 502"),
    "skunk": ("skunk", "361"),
    "snail": ("snail", "113"),
    "snake": ("snake", "52-68"),
    "spider": ("spider", "72-77"),
    "squirrel": ("squirrel", "335"),
    "tank": ("army tank", "847"),
    "telephone": ("telephone", "487 528 707"),
    "television": ("television", "851"),
    "tiger": ("tiger", "292"),
    "tractor": ("tractor", "866"),
    "train": ("train", "466 547 820"),
    "tram": ("tram", "829"),
    "truck": ("truck", "555 569 675 717 864 867"),
    "turtle": ("turtle", "33-37"),
    "wardrobe": ("wardrobe", "894"),
    "whale": ("whale", "147 148"),
    "wolf": ("wolf", "269-272"),
}


def members(ranges: str) -> list[int]:
    """Return the class numbers of a list such as ``"7-9 12"``."""
    numbers: list[int] = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def membership() -> Tensor:
    """Return a matrix (coarse words, 1000) with ones where a class belongs to a word."""
    matrix = torch.zeros(len(COARSE), 1000)
    for row, (_, ranges) in enumerate(COARSE.values()):
        matrix[row, members(ranges)] = 1.0
    return matrix
