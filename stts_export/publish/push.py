"""Put a bundle on a hub: its manifest's files and a card, in one commit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stts_export.publish.card import model_card
from stts_runtime.bundle.engine_set import engine_folders
from stts_runtime.bundle.open import MANIFEST, Bundle, open_bundle
from stts_runtime.errors import HubError, UsageError
from stts_runtime.hub.fetch import library
from stts_runtime.hub.name import HubName, hub_name
from stts_runtime.hub.refused import cause_of, refusal, unreachable
from stts_runtime.verify.report import REPORT, Report, report_from_json


CARD = "README.md"


@dataclass(frozen=True)
class Publication:
    """What a push would put on a hub."""

    name: HubName  # and the branch; None is `main`
    bundle: Bundle
    card: str  # Markdown
    files: tuple[str, ...]  # of the bundle, as they will lie in the repository; the card is not among them
    size: int  # of them all, in bytes
    left_out: tuple[str, ...]  # sets of engines that stay here
    verified: bool


def publication(bundle: Path, name: str, revision: str | None = None, unverified: bool = False) -> Publication:
    """Return what is to be put on a hub; nothing is asked or written.

    Every byte is compared with its digest. Engines stay here: each is for one GPU and one version of TensorRT.

    Args:
        bundle: its folder.
        name: `ORG/NAME`.
        revision: a branch that is there; None for `main`.
        unverified: whether a bundle may go that was not verified, or failed; its card says so.

    Raises:
        UsageError: no such name, or a bundle that was not verified and is not said to be.
        BundleError: it is damaged, or none.
        VerificationError: its report is damaged.
    """
    where = hub_name(name)
    if where is None or where.revision is not None:
        raise UsageError(
            f"{name!r} is no name for a bundle on a hub: wanted ORG/NAME, and a branch by --revision; a name ending in "
            ".stts would be taken for a folder"
        )
    where = HubName(where.repository, revision)
    opened = open_bundle(bundle, check=True)
    report = _report(opened)
    if not unverified and (report is None or not report.ok):
        found = "was not verified (built with --no-verify)" if report is None else f"failed: {report.verdict}"
        raise UsageError(
            f"{bundle} {found}: build it again without --no-verify, or push it with --unverified, and its card says so"
        )
    manifest = opened.manifest
    files = (MANIFEST, *(entry.path for entry in manifest.files))
    if CARD in files:
        raise UsageError(f"{bundle} has a file {CARD} of its own, where the card would lie: build the bundle again")
    return Publication(
        name=where,
        bundle=opened,
        card=model_card(manifest, report, where.repository),
        files=files,
        size=sum((opened.path / file).stat().st_size for file in files),
        left_out=tuple(folder.name for folder in engine_folders(opened.path)),
        verified=report is not None and report.ok,
    )


def push(what: Publication, private: bool = False) -> str:
    """Put it on the hub, making the repository where there is none, and return the commit's address.

    All goes in one commit, so that whoever fetches meets the old bundle or the new one. The library shows on standard
    error how far each file is.

    Args:
        what: from `publication`.
        private: whether a repository that is made now is for its owners alone; one that is there stays as it is.

    Raises:
        HubError: the hub cannot be reached, or refuses; nothing of the bundle is to be seen there then.
    """
    hub = library()
    if hub.constants.HF_HUB_OFFLINE:
        raise HubError("HF_HUB_OFFLINE is set, so nothing is pushed: unset it, or see what would be with --dry-run")
    api, repository = hub.HfApi(), what.name.repository
    root = what.bundle.path
    adds = [hub.CommitOperationAdd(file, str((root / file).resolve())) for file in what.files]
    adds.append(hub.CommitOperationAdd(CARD, what.card.encode()))
    try:
        api.create_repo(repository, private=private or None, exist_ok=True)
        message = f"{what.bundle.manifest.name} for {what.bundle.manifest.target.name}"
        info = api.create_commit(repository, adds, commit_message=message, revision=what.name.revision)
    except Exception as error:  # those of its HTTP library too, which differs between its versions
        cause = cause_of(error)
        if (reason := unreachable(hub, cause)) is not None:
            raise HubError(f"{reason}: {repository} is as it was. What was uploaded is not sent again") from error
        raise refusal(hub, what.name, cause) from error
    return str(info.commit_url)


def _report(bundle: Bundle) -> Report | None:
    if REPORT not in {entry.path for entry in bundle.manifest.files}:
        return None
    return report_from_json(bundle.file(REPORT).read_text(), str(bundle.file(REPORT)))
