"""What observations mean."""


def read(o):  # type: ignore
    from spanpost.domain.readings import Reading
    return Reading()
