"""`manage.py seed_catalogue`: a catalogue to try things with."""

from typing import Any

from django.core.management import base

from inventory import services

STOCK = 100_000
"""Generous: a demonstration should not sell out."""

# No name here decides anything: fates belong to cards, tax ids and postal codes.
PRODUCTS = {
    "ARMCHAIR-OAK": ("Oak armchair", 129_900),
    "BACKPACK-30L": ("Backpack, 30 litres", 24_990),
    "BASKET-WICKER": ("Wicker basket", 8_990),
    "BLANKET-WOOL": ("Wool blanket", 18_290),
    "BOOKENDS-BRASS": ("Brass bookends", 11_450),
    "BOTTLE-STEEL": ("Steel water bottle", 7_990),
    "BOWL-CERAMIC": ("Ceramic bowl", 4_590),
    "BROOM-STRAW": ("Straw broom", 3_290),
    "CANDLE-BEESWAX": ("Beeswax candle", 2_990),
    "CHAIR-FOLDING": ("Folding chair", 15_900),
    "CLOCK-WALL": ("Wall clock", 13_990),
    "COFFEE-1KG": ("Coffee beans, 1 kg", 6_890),
    "CUSHION-LINEN": ("Linen cushion", 9_990),
    "DESK-PINE": ("Pine desk", 84_900),
    "FAN-CEILING": ("Ceiling fan", 32_900),
    "GUITAR-NYLON": ("Nylon-string guitar", 59_900),
    "HAMMOCK-COTTON": ("Cotton hammock", 21_990),
    "JAR-GLASS-2L": ("Glass jar, 2 litres", 3_990),
    "KETTLE-ENAMEL": ("Enamel kettle", 16_490),
    "KNIFE-CHEF": ("Chef's knife", 19_990),
    "LAMP-READING": ("Reading lamp", 17_990),
    "MIRROR-ROUND": ("Round mirror", 22_900),
    "MUG-STONEWARE": ("Stoneware mug", 3_790),
    "NOTEBOOK-A5": ("Notebook, A5", 2_490),
    "PAN-CAST-IRON": ("Cast-iron pan", 18_990),
    "PENCILS-24": ("Coloured pencils, 24", 5_990),
    "PLANT-MONSTERA": ("Monstera in a pot", 9_490),
    "RUG-JUTE": ("Jute rug", 38_900),
    "SHELF-WALNUT": ("Walnut shelf", 27_900),
    "SOAP-OLIVE": ("Olive soap", 1_490),
    "STOOL-BAR": ("Bar stool", 34_900),
    "TABLE-SIDE": ("Side table", 42_900),
    "TEAPOT-GLASS": ("Glass teapot", 8_490),
    "TOWEL-BATH": ("Bath towel", 6_490),
    "UMBRELLA-LARGE": ("Large umbrella", 7_490),
    "VASE-CLAY": ("Clay vase", 5_490),
}

DIGITAL = {
    "AUDIOBOOK-TEA": ("A short history of tea, audiobook", 2_990),
    "EBOOK-COFFEE": ("Coffee at home, e-book", 3_490),
}
"""What goes to nobody in a parcel."""


class Command(base.BaseCommand):
    """Add the products that are missing; those that are there keep their price and stock."""

    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        """Add them, and say how many were new."""
        added = [
            services.introduce(
                sku=sku,
                name=name,
                price={"amount": amount, "currency": "BRL"},
                quantity=STOCK,
                ships=sku not in DIGITAL,
            )
            for sku, (name, amount) in (PRODUCTS | DIGITAL).items()
        ]
        self.stdout.write(f"{sum(added)} of {len(added)} products were new.")
