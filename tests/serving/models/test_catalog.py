from __future__ import annotations

from serving.models.catalog import Catalog, Entry, Trial


def versions(catalog: Catalog, name: str = "cats") -> list[str]:
    return [each.version for each in catalog.models.get(name, ())]


def test_a_version_takes_the_place_of_the_one_before() -> None:
    first = Catalog().loading("cats", "1", "a", keep_previous=False)
    second = first.loading("cats", "2", "b", keep_previous=False)
    assert (versions(first), versions(second)) == (["1"], ["2"])
    assert (first.number, second.number) == (1, 2)


def test_the_previous_version_is_kept_and_a_rollback_loads_nothing() -> None:
    catalog = Catalog()
    for version in ("1", "2", "3"):
        catalog = catalog.loading("cats", version, version, keep_previous=True)
    assert versions(catalog) == ["3", "2"]
    back = catalog.loading("cats", "2", "2", keep_previous=True)
    assert versions(back) == ["2", "3"]
    assert set(back.entries()) == set(catalog.entries())


def test_changed_files_of_a_version_are_another_entry() -> None:
    first = Catalog().loading("cats", "1", "a", keep_previous=True)
    again = first.loading("cats", "1", "b", keep_previous=True)
    assert list(again.entries()) == [Entry("cats", "1", "b", 2)]


def test_a_failure_is_noted_until_the_version_is_loaded_or_the_model_unloaded() -> None:
    first = Catalog().loading("cats", "1", "a", keep_previous=False)
    failed = first.failing("cats", "2", "why").failing("dogs", "1", "not")
    assert versions(failed) == ["1"]
    assert failed.failures == {("cats", "2"): "why", ("dogs", "1"): "not"}
    loaded = failed.loading("cats", "2", "b", keep_previous=False)
    assert loaded.failures == {("dogs", "1"): "not"}
    assert failed.unloading("cats").failures == {("dogs", "1"): "not"}
    assert versions(failed.unloading("cats")) == []


def test_a_canary_is_loaded_beside_the_version_that_answers() -> None:
    first = Catalog().loading("cats", "1", "a", keep_previous=True)
    second = first.loading("cats", "2", "b", keep_previous=True)
    tried = second.trying("cats", "c", Trial("3", 0.05), keep_previous=True)
    assert versions(tried) == ["2", "3", "1"]
    assert tried.canaries == {"cats": Trial("3", 0.05)}
    fewer = second.trying("cats", "c", Trial("3", 0.05), keep_previous=False)
    assert versions(fewer) == ["2", "3"]
    more = tried.trying("cats", "c", Trial("3", 0.5), keep_previous=True)
    assert set(more.entries()) == set(tried.entries())


def test_the_version_before_stays_for_a_rollback_while_one_trial_follows_another() -> None:
    catalog = Catalog()
    for version in ("1", "2"):
        catalog = catalog.loading("cats", version, version, keep_previous=True)
    for version in ("3", "4"):
        catalog = catalog.trying("cats", version, Trial(version, 0.05), keep_previous=True)
    assert versions(catalog) == ["2", "4", "1"]
    shadowed = catalog.trying("cats", "5", Trial("5", 0.05), keep_previous=True, shadow=True)
    after = shadowed.trying("cats", "6", Trial("6", 0.05), keep_previous=True)
    assert (versions(shadowed), versions(after)) == (["2", "5", "1"], ["2", "6", "1"])


def test_a_canary_ends_with_the_next_load_of_its_model_or_with_it() -> None:
    first = Catalog().loading("cats", "1", "a", keep_previous=False)
    tried = first.trying("cats", "b", Trial("2", 0.05), keep_previous=False)
    assert tried.loading("dogs", "1", "d", keep_previous=False).canaries == tried.canaries
    assert tried.failing("cats", "3", "why").canaries == tried.canaries
    taken = tried.loading("cats", "2", "b", keep_previous=False)
    back = tried.loading("cats", "1", "a", keep_previous=False)
    assert (versions(taken), versions(back)) == (["2"], ["1"])
    assert set(taken.entries()) < set(tried.entries())  # nothing is loaded again
    assert taken.canaries == back.canaries == tried.unloading("cats").canaries == {}


def test_a_shadow_is_loaded_anew_at_its_start_and_kept_while_its_share_changes() -> None:
    catalog = Catalog().loading("cats", "1", "a", keep_previous=True)
    both = catalog.loading("cats", "2", "b", keep_previous=True)
    trial = Trial("1", 0.05)
    tried = both.trying("cats", "a", trial, keep_previous=True, shadow=True)
    assert (versions(tried), tried.shadows, tried.canaries) == (["2", "1"], {"cats": trial}, {})
    assert tried.entry("cats", "1") == Entry("cats", "1", "a", 3)
    more = tried.trying("cats", "a", Trial("1", 1.0), keep_previous=True, shadow=True)
    assert set(more.entries()) == set(tried.entries())
    assert more.shadows == {"cats": Trial("1", 1.0)}
    files = tried.trying("cats", "new", trial, keep_previous=True, shadow=True)
    assert files.entry("cats", "1") == Entry("cats", "1", "new", 4)


def test_a_shadow_ends_with_the_next_load_of_its_model_or_with_it() -> None:
    first = Catalog().loading("cats", "1", "a", keep_previous=False)
    tried = first.trying("cats", "b", Trial("2", 0.05), keep_previous=False, shadow=True)
    assert tried.loading("dogs", "1", "d", keep_previous=False).shadows == tried.shadows
    canary = tried.trying("cats", "b", Trial("2", 0.05), keep_previous=False)
    assert (canary.shadows, [*canary.canaries]) == ({}, ["cats"])
    assert set(canary.entries()) == set(tried.entries())  # nothing is loaded again
    for after in (tried.loading("cats", "1", "a", keep_previous=False), tried.unloading("cats")):
        assert after.shadows == {}
