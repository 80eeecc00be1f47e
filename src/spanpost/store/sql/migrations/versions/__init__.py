"""One file per revision, named by it. A minor revision only adds, so that the version before goes on working beside it."""
