"""Figures for people: tokens and money."""

from __future__ import annotations

from decimal import Decimal


def count(n: int) -> str:
    """Write a number of tokens for people: 950, 12.4k, 1.2M."""
    if abs(n) < 1_000:
        return str(n)
    for size, unit in ((1e3, "k"), (1e6, "M"), (1e9, "G")):
        if abs(n) < size * 999.5:
            shown = f"{n / size:.1f}" if abs(n) < size * 99.95 else f"{n / size:.0f}"
            return shown.removesuffix(".0") + unit
    return f"{n / 1e12:.3g}T"


def money(usd: Decimal) -> str:
    """Write US dollars: two decimals, and more digits below a cent."""
    if usd and abs(usd) < Decimal("0.01"):
        return f"${usd:.4f}" if abs(usd) >= Decimal("0.0001") else "<$0.0001"
    return f"${usd:,.2f}"
