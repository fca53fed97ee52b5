import pytest

from stages.features.licences import terms, warning


@pytest.mark.parametrize(
    "licence",
    ["apache-2.0", "Apache 2.0", "MIT", "mit license", "bsd-3-clause", "CC-BY-4.0", "cc0-1.0", "cdla-permissive-2.0"],
)
def test_licences_that_ask_for_attribution_at_most_bring_no_warning(licence: str) -> None:
    found = terms(licence, ("vit_small_patch16_224",))
    assert (found.restricts, found.known, warning("x", found)) == (False, True, None)


@pytest.mark.parametrize(
    "licence",
    [
        "cc-by-nc-4.0",
        "CC BY-NC-ND 4.0",
        "cc-by-nd-4.0",
        "CC-BY-SA-4.0",
        "cc_by_nc_sa_4.0",
        "owkin-non-commercial",
        "for non commercial use",
        "Research use only",
        "Free for academic institutions",
        "Attribution-NonCommercial-NoDerivatives 4.0 International",
    ],
)
def test_licences_that_restrict_derived_works_are_told_loudly(licence: str) -> None:
    found = terms(licence, ("vit_small_patch16_224",))
    assert found.restricts and found.known
    assert "may bind the data set too" in str(warning("vit", found)) and licence in str(warning("vit", found))


@pytest.mark.parametrize("licence", [None, "", "  ", "openrail", "other", "terms of our institute", "CC-BY-NX"])
def test_an_unknown_licence_is_warned_of_too(licence: str | None) -> None:
    found = terms(licence)
    assert (found.restricts, found.known) == (False, False)
    assert "licence is not known here" in str(warning("x", found))


@pytest.mark.parametrize(
    "name",
    [
        *("UNI", "MahmoodLab UNI2-h", "CONCH", "conchv1_5", "Virchow2", "virchow-2", "Phikon", "phikon_v2"),
        *("H-optimus-1", "Prov-GigaPath", "Model Card for UNI"),
    ],
)
def test_models_whose_cards_restrict_are_known_by_name_whatever_the_recipe_says(name: str) -> None:
    assert terms("apache-2.0", (name,)).restricts


@pytest.mark.parametrize(
    "name", ["H-optimus-0", "Virchow", "DINOv2", "unicorn", "vit_small_patch16_224.dino", "H0-mini", "universal"]
)
def test_models_of_like_names_are_not_accused(name: str) -> None:
    assert not terms("apache-2.0", (name,)).restricts


def test_conditions_to_agree_to_before_a_download_count() -> None:
    gate = "By accessing this model, you agree to use it solely for\nresearch."
    assert terms("apache-2.0", ("x",), gate).restricts
