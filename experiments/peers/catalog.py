"""The peers by name, and the choice of those that take part."""

from __future__ import annotations

from experiments.peers.peer import Absent, Peer
from walloc_cdl.errors import unknown_name

INSTALL = "pip install 'walloc-cdl[bench]'"

PEERS = {
    peer.name: peer
    for peer in (
        Peer("walloc", "PyPI walloc", ("encode",), "walloc", package="walloc"),
        Peer("torch", "the same codec in plain torch", ("encode",), "plain_torch"),
        Peer("dataloader", "torch DataLoader over LatentDataset", ("load", "train"), "dataloader"),
        Peer(
            "imagefolder",
            "torchvision ImageFolder and DataLoader",
            ("load", "prepare", "train"),
            "imagefolder",
            reads_images=True,
        ),
        Peer("webdataset", "WebDataset", ("load", "train"), "webdataset", package="webdataset"),
        Peer("hf", "Hugging Face datasets", ("load", "train"), "hf", package="datasets"),
        Peer("litdata", "LitData", ("load", "train"), "litdata", package="litdata"),
    )
}


def peer_names(benchmark: str) -> list[str]:
    """Returns the peers that can take part in a benchmark: `encode`, `load`, `prepare` or `train`."""
    return [name for name, peer in PEERS.items() if benchmark in peer.benchmarks]


def choose_peers(benchmark: str, against: str | None) -> tuple[list[Peer], list[Absent]]:
    """Returns the installed peers, and the absent ones, that `against` names.

    `against` is separated by commas; None stands for all peers, an empty text for none. Raises `CallError` for a name
    that is not a peer of this benchmark.
    """
    known = peer_names(benchmark)
    names = known if against is None else list(dict.fromkeys(filter(None, map(str.strip, against.split(",")))))
    for name in names:
        if name not in known:
            raise unknown_name("peer", name, known, f"choose among {', '.join(known)}")
    peers = [PEERS[name] for name in names]
    absent = [
        Absent(peer.name, f"{peer.package} is not installed; {INSTALL}") for peer in peers if not peer.is_installed
    ]
    return [peer for peer in peers if peer.is_installed], absent
