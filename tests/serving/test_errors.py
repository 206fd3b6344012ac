from serving import errors


def tree(base: type[errors.ServingError]) -> list[type[errors.ServingError]]:
    return [base] + [kind for child in base.__subclasses__() for kind in tree(child)]


def test_the_docstring_shows_the_whole_tree() -> None:
    assert errors.__doc__ is not None
    drawn = [line.strip(" │├└─") for line in errors.__doc__.splitlines() if "Error  " in line]
    actual = [f"{kind.__name__} {kind.status} {kind.type}" for kind in tree(errors.ServingError)]
    assert [" ".join(line.partition(":")[0].split()) for line in drawn] == actual


def test_each_error_has_its_own_problem_type() -> None:
    """Except one, which differs from its base in the status only."""
    kinds = [kind for kind in tree(errors.ServingError) if kind is not errors.DeadlineTooShortError]
    types = [kind.type for kind in kinds]
    assert len(set(types)) == len(types)
    assert all(name.replace("-", "").isalpha() and name.islower() for name in types)
    assert errors.DeadlineTooShortError.type == errors.DeadlineError.type
