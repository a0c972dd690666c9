"""Table of the content of a pixel store, band by band."""

from collections.abc import Sequence

from astropy.table import Table

from fphojax.inputs.stores.stored_exposures import StoredExposure
from fphojax.results.table_text import formatted

__all__ = ["store_table"]


def store_table(exposures: Sequence[StoredExposure]) -> Table:
    """Tabulate number and sizes of exposures, units, calibration, bit masks and bytes on disk by band."""
    rows = []
    for band in dict.fromkeys(exposure.band for exposure in exposures):
        those = [exposure for exposure in exposures if exposure.band == band]
        stated = [exposure.attributes for exposure in those]
        sizes = sorted({exposure.shape for exposure in those})
        n_byte = sum(exposure.store.n_byte(band, exposure.name) for exposure in those)
        raw = sum(8 * ny * nx for ny, nx in (exposure.shape for exposure in those))
        factors = [float(attributes.get("counts_to_flux", 1.0)) for attributes in stated]
        rows.append(
            {
                "band": band,
                "exposures": len(those),
                "sizes": _listed([f"{nx} x {ny}" for ny, nx in sizes]),
                "units": _listed(sorted({str(entry.get("flux_units", "not stated")) for entry in stated})),
                "nJy per count": " to ".join(
                    f"{factor:.6g}" for factor in sorted({min(factors), max(factors)})
                ),
                "bitmask": _listed(
                    sorted({str(entry.get("bitmask_applied", "not stated")) for entry in stated})
                ),
                "MB": n_byte / 1e6,
                "of raw": 100 * n_byte / raw,
            }
        )
    return formatted(Table(rows), {"MB": ".1f", "of raw": "{:.0f} %"})


def _listed(values: list[str]) -> str:
    return ", ".join(values) if len(values) <= 3 else f"{values[0]} to {values[-1]} ({len(values)})"
