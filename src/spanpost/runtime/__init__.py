"""Composition: lifecycle, threads, forks, the gateway and its endpoints. The only package that knows all others."""
