"""python3 -m inventory SKU=UNITS… prints what would be on the shelf."""

import sys

from inventory import (
    Client,
    fetch_stock,
)


def main(arguments):
    client = Client((sku, int(units)) for sku, _, units in (each.partition("=") for each in arguments))
    for sku in (each.partition("=")[0] for each in arguments):
        print(sku, fetch_stock(client, sku))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
