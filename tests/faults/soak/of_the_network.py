"""Faults of the network to PostgreSQL: packets that do not arrive, and a certificate that has run out."""

from __future__ import annotations

from tests.faults.soak.dealt import dealt
from tests.faults.soak.network import Passes
from tests.faults.soak.of_the_database import OfNetwork
from tests.faults.soak.world import World


@dealt
class NetworkSwallows(OfNetwork):
    """No packet arrives in either direction; connections stay open, and new ones are not answered."""

    name, tries, passes = "network swallows", ("never-500", "database-hangs"), Passes.SWALLOWED
    lasts = (1.0, 20.0)


@dealt
class CertificateExpired(OfNetwork):
    """PostgreSQL's certificate has run out when connections are made again; later it is replaced."""

    name, tries, lasts = "certificate expired", ("never-500", "certificate-expired"), (2.0, 8.0)

    def strike(self, world: World) -> None:
        world.network.certify(is_expired=True)
        world.network.cut()

    def lift(self, world: World) -> None:
        world.network.certify()
