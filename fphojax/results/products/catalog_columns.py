"""Columns of the final catalogue: names, units, definitions; docs/catalog_columns.md is generated from these."""

import re
import sys
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["COLUMNS", "FLAGS", "PARAMETER_UNIT", "ColumnName", "ColumnText", "columns_document"]

PARAMETER_UNIT = "parameter's"


class ColumnName(NamedTuple):
    """A column of a family: ``ColumnName("cov_BAND_BAND2", ("g", "r"))`` is ``cov_g_r``.

    Attributes
    ----------
    pattern : str
        Name with ``PARAMETER``, or ``BAND``, ``BAND2`` and ``BAND3``; then, perhaps, ``COMPONENT``.
    parts : tuple of str
        What these stand for, in this order.
    """

    pattern: str
    parts: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = {"PARAMETER": 0, "BAND": 0, "BAND2": 1, "BAND3": 2, "COMPONENT": 1}
        return re.sub(
            "COMPONENT|PARAMETER|BAND[23]?", lambda match: self.parts[place[match[0]]], self.pattern
        )

    @property
    def text(self) -> "ColumnText":
        """Unit and definition of its family."""
        short = self.pattern.removesuffix("_16").removesuffix("_84")
        return _BY_NAME[self.pattern if self.pattern in _BY_NAME else short]


@dataclass(frozen=True)
class ColumnText:
    """A column, or a family of columns.

    Attributes
    ----------
    name : str
        ``BAND`` and ``BAND2`` stand for the name of a band, ``PARAMETER`` for a parameter's name: ra, dec, q, pa,
        sersic, rhalf or a band.
    unit : str
        `PARAMETER_UNIT` for that of the parameter.
    text : str
    """

    name: str
    unit: str
    text: str


FLAGS = {
    1: "r_hat above 1.05 for some parameter",
    2: "fewer than 100 effective draws, bulk or tail, of some parameter",
    4: "more than 5 % of the draws of some parameter at an edge of its prior",
    8: "divergent transitions in a patch of the source",
    16: "means in different patches differ by more than one standard deviation for some parameter: see the "
    "multipatch table",
    32: "not sampled: draws from an approximation or by weights that are not to be trusted, or a single point",
    64: "standard deviation of some parameter other than pa above 0.7 times that of its prior: weakly "
    "constrained by the data",
    128: "model limited: in some band chi-squared of the pixels dominated by the source is above 1.5 per pixel, and "
    "above that of pure noise by five standard deviations; the Sersic profile or the PSF, not noise, limits the flux",
}

_MAG, _SB = "mag (AB)", "mag (AB) arcsec-2"
COLUMNS = (
    ColumnText("id", "", "identifier of the source in the input catalogue"),
    ColumnText("ra", "deg", "right ascension, ICRS; median of the draws, like all columns without a suffix"),
    ColumnText("dec", "deg", "declination, ICRS"),
    ColumnText("roi", "arcsec", "radius of influence used to define the patches"),
    ColumnText("q", "", "axis ratio b/a"),
    ColumnText("pa", "deg", "position angle of the major axis, east of north"),
    ColumnText("sersic", "", "Sersic index"),
    ColumnText("rhalf", "arcsec", "circularised half-light radius; the semi-major one is rhalf_major"),
    ColumnText("BAND", "nJy", "total flux in the band"),
    ColumnText(
        "BAND_err",
        "nJy",
        "standard deviation of the flux: that of its draws, NaN if all are equal; for an optimum or a forced "
        "flux, that from noise with all fitted parameters free, also near the limits of the prior",
    ),
    ColumnText(
        "BAND_err_scaled",
        "nJy",
        "the same including the misfit: BAND_err times the square root of chi-squared per pixel, if above one, "
        "of the pixels dominated by the source in the band (see chi2)",
    ),
    ColumnText(
        "BAND_err_scale",
        "",
        "BAND_err over what it is with the errors of the images alone: all errors and draws of the source follow the "
        "noise as it was measured (the stage noise), and include what PSF mixtures may get wrong; NaN where the "
        "errors of the images are all",
    ),
    ColumnText("PARAMETER_16", PARAMETER_UNIT, "16th percentile of the draws"),
    ColumnText("PARAMETER_84", PARAMETER_UNIT, "84th percentile of the draws"),
    ColumnText("PARAMETER_mean", PARAMETER_UNIT, "mean of the draws"),
    ColumnText(
        "PARAMETER_std",
        PARAMETER_UNIT,
        "standard deviation of the draws (for a flux: BAND_err; for ra: of the coordinate, without cos dec)",
    ),
    ColumnText("PARAMETER_ess_bulk", "", "effective number of draws for the centre (Vehtari et al. 2021)"),
    ColumnText("PARAMETER_ess_tail", "", "the same for the 5 % and 95 % quantiles, whichever is smaller"),
    ColumnText(
        "PARAMETER_rhat",
        "",
        "rank-normalised split R-hat over all chains; NaN for a single chain and, like the effective numbers, for a "
        "fixed parameter",
    ),
    ColumnText("PARAMETER_at_bound", "", "fraction of draws within a thousandth of an edge of the prior"),
    ColumnText(
        "PARAMETER_prior_std",
        PARAMETER_UNIT,
        "standard deviation of the prior; NaN for a fixed parameter, and in results of older versions",
    ),
    ColumnText("cov_BAND_BAND2", "nJy2", "covariance of the fluxes in two bands"),
    ColumnText(
        "mag_BAND", _MAG, "31.4 - 2.5 log10(flux / nJy) of the median flux; NaN if that is not positive"
    ),
    ColumnText(
        "mag_BAND_16", _MAG, "16th percentile of the magnitude; NaN where the flux there is not positive"
    ),
    ColumnText("mag_BAND_84", _MAG, "84th percentile"),
    ColumnText(
        "colour_BAND_BAND2",
        _MAG,
        "median of mag_BAND - mag_BAND2, for consecutive bands; NaN if any draw of a flux is not positive",
    ),
    ColumnText("colour_BAND_BAND2_16", _MAG, "16th percentile of the colour"),
    ColumnText("colour_BAND_BAND2_84", _MAG, "84th percentile"),
    ColumnText("colour_BAND_BAND2_std", _MAG, "standard deviation of the colour"),
    ColumnText(
        "colour_cov_BAND_BAND2_BAND3", "mag2", "covariance of the colours BAND - BAND2 and BAND2 - BAND3"
    ),
    ColumnText("rhalf_major", "arcsec", "semi-major half-light radius, rhalf / sqrt(q); also _16, _84"),
    ColumnText(
        "r_kron",
        "arcsec",
        "semi-major Kron-like radius: 2.5 times the first moment of the light profile, integrated to infinity; "
        "also _16, _84",
    ),
    ColumnText(
        "r_iso_BAND",
        "arcsec",
        "semi-major radius at which the profile has the surface brightness ISOPHOTE (in the header; 25 mag / "
        "arcsec2 by default); 0 if the profile is fainter everywhere, NaN for a point; also _16, _84",
    ),
    ColumnText(
        "mu0_BAND",
        _SB,
        "central surface brightness of the profile, before the PSF; NaN if any draw of the flux is not positive, and "
        "for a point; also _16, _84",
    ),
    ColumnText(
        "mue_BAND", _SB, "surface brightness at the half-light radius; NaN where mu0 is; also _16, _84"
    ),
    ColumnText("ess_min", "", "smallest effective number of draws of the free parameters"),
    ColumnText("rhat_max", "", "largest R-hat of the free parameters"),
    ColumnText(
        "profile",
        "",
        "sersic, or a special profile with fixed parameters: exponential and devaucouleurs (sersic), point "
        "(q, pa, sersic, rhalf); their columns contain the fixed values; bulge_disk, point_sersic or a list of "
        "profiles joined by + for a composite source: its fluxes are the totals, q, pa, sersic and rhalf those of "
        "the last component (the disk, the host), chi2 and n_pixel sums, and r_kron, r_iso, mu0 and mue are NaN",
    ),
    ColumnText(
        "bt_BAND",
        "",
        "share of the first component in the total flux, for a bulge and a disk the bulge-to-total ratio; NaN for "
        "other sources, like all columns of components, which are there if the run has composite sources",
    ),
    ColumnText("bt_BAND_err", "", "half of the central 68 % of its draws"),
    ColumnText("COMPONENT_BAND", "nJy", "flux of a component"),
    ColumnText("COMPONENT_BAND_err", "nJy", "its standard deviation"),
    ColumnText("COMPONENT_PARAMETER", PARAMETER_UNIT, "q, pa, sersic or rhalf of a component"),
    ColumnText("COMPONENT_PARAMETER_std", PARAMETER_UNIT, "its standard deviation"),
    ColumnText(
        "tied",
        "",
        "parameters tied to another source, with its id: ra=7 dec=7; their columns repeat those of that source",
    ),
    ColumnText("at_bound", "", "largest fraction of draws at an edge of the prior, of all parameters"),
    ColumnText(
        "chi2",
        "",
        "chi-squared at the optimum of the pixels dominated by the source, in all exposures: those within twice the "
        "half-light ellipse, widened in quadrature by the PSF core (the narrowest Gaussians with half of its "
        "light) and the pixel, that do not lie farther inside such an ellipse of another source; in its last patch",
    ),
    ColumnText("n_pixel", "", "number of these pixels; 0 if chi2 is not known"),
    ColumnText("n_patch", "", "number of patches in which the source was fitted; their chains are combined"),
    ColumnText("n_draw", "", "number of draws in all chains"),
    ColumnText("n_divergent", "", "number of divergent transitions in its patches"),
    ColumnText("patch_id", "", "last patch in which the source was fitted"),
    ColumnText("method", "", "method used for its last patch: nuts, importance, laplace, optimum or forced"),
    ColumnText(
        "pareto_k",
        "",
        "Pareto k-hat of the importance weights in its last patch; weights can be trusted below 0.7; NaN for other "
        "methods",
    ),
    ColumnText(
        "effective_size",
        "",
        "effective number of the weighted points from which the draws of its last patch were taken, at most their "
        "number; the other effective numbers are no larger; NaN for methods other than importance",
    ),
    ColumnText(
        "efficiency",
        "",
        "effective number of these points for each evaluation of the posterior; NaN for other methods",
    ),
    ColumnText("flags", "", "sum of the flags that apply, see below; 0 for none"),
)

_BY_NAME = {column.name: column for column in COLUMNS}


def columns_document() -> str:
    """Format the columns and flags as Markdown."""
    lines = [
        "# Columns of the final catalogue",
        "",
        "`fphojax postprocess RUN` writes the catalogue to `catalogs/final.fits`. `BAND`, `BAND2`, `BAND3` "
        "stand for names of bands, in the order of the settings; `PARAMETER` stands for ra, dec, q, pa, sersic, "
        "rhalf or a band, `COMPONENT` for bulge, disk, point, host or a profile.",
        "",
        "| column | unit | meaning |",
        "| --- | --- | --- |",
        *(f"| `{column.name}` | {column.unit} | {column.text} |" for column in COLUMNS),
        "",
        "| flag | meaning |",
        "| --- | --- |",
        *(f"| {bit} | {text} |" for bit, text in FLAGS.items()),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(columns_document())
