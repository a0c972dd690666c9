"""Unified Content Descriptors (UCD1+) of the final catalogue's columns, by which VO tools know what a column is."""

from .catalog_columns import ColumnName

__all__ = ["UCDS", "ucd_of"]

_MAIN = {
    "ra": "pos.eq.ra",
    "dec": "pos.eq.dec",
    "q": "phys.size.axisRatio",
    "pa": "pos.posAng",
    "sersic": "src.morph.param",
    "rhalf": "phys.angSize",
    "BAND": "phot.flux.density",
}
# Of families of parameters, "{}" stands for the parameter's own.
_STATISTICS = {
    "PARAMETER_16": "{};stat.min",
    "PARAMETER_84": "{};stat.max",
    "PARAMETER_mean": "{};stat.mean",
    "PARAMETER_std": "stat.error;{}",
    "PARAMETER_prior_std": "stat.stdev;{}",
    "PARAMETER_ess_bulk": "meta.number",
    "PARAMETER_ess_tail": "meta.number",
    "PARAMETER_rhat": "stat.fit.goodness",
    "PARAMETER_at_bound": "stat.value",
    "COMPONENT_PARAMETER": "{}",
    "COMPONENT_PARAMETER_std": "stat.error;{}",
}
UCDS = {
    **_MAIN,
    **_STATISTICS,
    "id": "meta.id;meta.main",
    "ra": "pos.eq.ra;meta.main",
    "dec": "pos.eq.dec;meta.main",
    "roi": "phys.angSize",
    "BAND_err": "stat.error;phot.flux.density",
    "BAND_err_scaled": "stat.error;phot.flux.density",
    "BAND_err_scale": "stat.error;arith.ratio",
    "cov_BAND_BAND2": "stat.covariance;phot.flux.density",
    "mag_BAND": "phot.mag",
    "colour_BAND_BAND2": "phot.color",
    "colour_BAND_BAND2_std": "stat.error;phot.color",
    "colour_cov_BAND_BAND2_BAND3": "stat.covariance;phot.color",
    "rhalf_major": "phys.angSize.smajAxis",
    "r_kron": "phys.angSize.smajAxis",
    "r_iso_BAND": "phys.angSize.smajAxis",
    "mu0_BAND": "phot.mag.sb",
    "mue_BAND": "phot.mag.sb",
    "ess_min": "meta.number",
    "rhat_max": "stat.fit.goodness",
    "profile": "src.morph.type",
    "tied": "meta.note",
    "at_bound": "stat.value",
    "chi2": "stat.fit.chi2",
    "n_pixel": "meta.number",
    "n_patch": "meta.number",
    "n_draw": "meta.number",
    "n_divergent": "meta.number",
    "patch_id": "meta.id",
    "method": "meta.note",
    "pareto_k": "stat.fit.goodness",
    "effective_size": "meta.number",
    "efficiency": "stat.value",
    "flags": "meta.code.qual",
    "bt_BAND": "phot.flux.density;arith.ratio",
    "bt_BAND_err": "stat.error;arith.ratio",
    "COMPONENT_BAND": "phot.flux.density",
    "COMPONENT_BAND_err": "stat.error;phot.flux.density",
}
_ENDS = {"_16": "stat.min", "_84": "stat.max"}


def ucd_of(name: ColumnName) -> str:
    """Return the UCD of a column of the final catalogue."""
    if name.pattern in _STATISTICS:
        return _STATISTICS[name.pattern].format(_MAIN.get(name.parts[0], _MAIN["BAND"]))
    if name.pattern in UCDS:
        return UCDS[name.pattern]
    return f"{UCDS[name.pattern[:-3]]};{_ENDS[name.pattern[-3:]]}"
