"""Sources that share parameters with each other, by the setting `ties`."""

from fphojax.errors import InputError
from fphojax.inputs.profiles import PROFILES, profiles_of
from fphojax.inputs.recipe import linked_rows
from fphojax.inputs.source_catalog import SourceCatalog

from .schema import Settings

__all__ = ["tie_problems", "tied_rows"]


def tie_problems(catalog: SourceCatalog, settings: Settings) -> list[str]:
    """Describe each invalid tie in one line.

    Both ids must be in the catalogue, the second one must not be tied itself, and the profiles of both must leave the
    parameter free: else one of them would not be what its profile says.
    """
    row, profiles = _rows(catalog), profiles_of(catalog)
    problems = []
    for name, pairs in settings.ties.items():
        for pair in pairs.items():
            label = f"{settings.file}: ties: {name}"
            absent = [identifier for identifier in pair if identifier not in row]
            fixed = [
                identifier
                for identifier in pair
                if identifier not in absent and name in PROFILES[profiles[row[identifier]]]
            ]
            if absent:
                problems.append(f"{label}: found id {absent[0]}, expected one in {settings.raw_catalog}")
            elif pair[1] in pairs:
                problems.append(
                    f"{label}: found id {pair[0]} with the value of id {pair[1]}, which is tied itself, expected one "
                    "that is not"
                )
            elif fixed:
                profile = profiles[row[fixed[0]]]
                problems.append(
                    f"{label}: found id {fixed[0]} of the profile {profile}, which holds {name}, expected sources "
                    "whose profiles leave it free"
                )
    return problems


def tied_rows(catalog: SourceCatalog, settings: Settings) -> list[list[int]]:
    """Return rows of sources that share parameters with each other, directly or through others.

    Raises
    ------
    InputError
        One line for each invalid tie.
    """
    if problems := tie_problems(catalog, settings):
        raise InputError("\n".join(problems))
    return linked_rows(catalog, settings.ties)


def _rows(catalog):
    return {str(identifier): i for i, identifier in enumerate(catalog.id)}
