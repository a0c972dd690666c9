"""Table of the content of a pixel store, band by band, for the terminal."""

from collections.abc import Sequence

from fphojax.inputs.stores.stored_exposures import StoredExposure

from .plain_table import PlainTable

__all__ = ["store_table"]


def store_table(exposures: Sequence[StoredExposure]) -> PlainTable:
    """Tabulate number and sizes of exposures, units, calibration, bit masks and bytes on disk by band."""
    table = PlainTable(f"Pixel store {exposures[0].path.name}", frame=True)
    for name in ("band", "exposures", "sizes", "units", "nJy per count", "bitmask", "MB", "of raw"):
        table.add_column(name, justify="right" if name in ("exposures", "MB", "of raw") else "left")
    for band in dict.fromkeys(exposure.band for exposure in exposures):
        those = [exposure for exposure in exposures if exposure.band == band]
        said = [exposure.attributes for exposure in those]
        sizes = sorted({exposure.shape for exposure in those})
        n_byte = sum(exposure.store.n_byte(band, exposure.name) for exposure in those)
        raw = sum(8 * ny * nx for ny, nx in (exposure.shape for exposure in those))
        factors = [float(attributes.get("counts_to_flux", 1.0)) for attributes in said]
        table.add_row(
            band,
            str(len(those)),
            _listed([f"{nx} x {ny}" for ny, nx in sizes]),
            _listed(sorted({str(attributes.get("flux_units", "not stated")) for attributes in said})),
            f"{min(factors):.6g}"
            if min(factors) == max(factors)
            else f"{min(factors):.6g} to {max(factors):.6g}",
            _listed(sorted({str(attributes.get("bitmask_applied", "not stated")) for attributes in said})),
            f"{n_byte / 1e6:.1f}",
            f"{100 * n_byte / raw:.0f} %",
        )
    return table


def _listed(values: list[str]) -> str:
    return ", ".join(values) if len(values) <= 3 else f"{values[0]} to {values[-1]} ({len(values)})"
