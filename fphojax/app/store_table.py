"""What a pixel store holds, band by band, for the terminal."""

from collections.abc import Sequence

from rich.table import Table

from fphojax.inputs.stores import StoredExposure

__all__ = ["store_table"]


def store_table(exposures: Sequence[StoredExposure]) -> Table:
    """Number and sizes of exposures, units, calibration factors, bit masks and bytes on disk of every band."""
    table = Table(title=f"Pixel store {exposures[0].path.name}", title_justify="left")
    for name in ("band", "exposures", "sizes", "units", "nJy per count", "bitmask", "MB", "of raw"):
        table.add_column(name, justify="right" if name in ("exposures", "MB", "of raw") else "left")
    for band in dict.fromkeys(exposure.band for exposure in exposures):
        entries = [exposure.entry for exposure in exposures if exposure.band == band]
        sizes = sorted({entry.shape for entry in entries})
        n_byte = sum(entry.n_byte for entry in entries)
        raw = sum(8 * entry.shape[0] * entry.shape[1] for entry in entries)
        factors = [float(entry.attributes.get("counts_to_flux", 1.0)) for entry in entries]
        table.add_row(
            band,
            str(len(entries)),
            _listed([f"{nx} x {ny}" for ny, nx in sizes]),
            _listed(sorted({str(entry.attributes.get("flux_units", "not stated")) for entry in entries})),
            f"{min(factors):.6g}"
            if min(factors) == max(factors)
            else f"{min(factors):.6g} to {max(factors):.6g}",
            _listed(
                sorted({str(entry.attributes.get("bitmask_applied", "not stated")) for entry in entries})
            ),
            f"{n_byte / 1e6:.1f}",
            f"{100 * n_byte / raw:.0f} %",
        )
    return table


def _listed(values: list[str]) -> str:
    return ", ".join(values) if len(values) <= 3 else f"{values[0]} to {values[-1]} ({len(values)})"
