"""Details: reaching the device, releases on it, and rollouts."""

from __future__ import annotations

from collections.abc import Mapping

from .details_entry import Details, Where

__all__ = ["FLEET"]

_CONTACT = (Where.CONTACT,)
_RELEASE = (Where.RELEASE,)

FLEET: Mapping[str, Details] = {
    "LF501": Details(
        "The SSH connection was refused, ran into `ssh.connect_time_limit_s`, or the name could not be resolved.",
        _CONTACT,
        "10.1.0.112:22 did not answer within the time limit",
        (
            "Try by hand: `ssh -p PORT USER@HOST true`.",
            "Is the port open? `nc -vz HOST 22`.",
            "Behind another machine, name it in the inventory: `jump: user@host:port`.",
        ),
        (
            "ssh: connect to host ... port 22: Connection refused",
            "ssh: connect to host ... port 22: No route to host",
            "ssh: Could not resolve hostname",
        ),
    ),
    "LF502": Details(
        "The key that the device shows is in neither `host_key:`, `ssh.known_hosts` nor the project's own pins.",
        _CONTACT,
        "10.1.0.112:22 shows SHA256:Qm1m...k4 (ssh-ed25519), which nobody has confirmed",
        (
            "Read the fingerprint at the device itself: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`.",
            "If it is the same, pin it: `litefleet probe --limit NAME --accept-new-host-keys`.",
            "Or write it into the inventory: `host_key: ssh-ed25519 AAAA...`.",
        ),
        ("The authenticity of host ... can't be established.", "Host key verification failed."),
    ),
    "LF503": Details(
        "A key for this device is known, and the one that it shows is another or is marked as revoked.",
        _CONTACT,
        "10.1.0.112:22 shows SHA256:Qm1m...k4, known is SHA256:9f3c...Zo",
        (
            "Find out whether it was reinstalled. If nobody did, do not log in.",
            "Compare at the device itself: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`.",
            "Then take the old line out (`ssh-keygen -R HOST`) and pin anew: `litefleet probe --limit NAME --accept-new-host-keys`.",
        ),
        ("WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!",),
    ),
    "LF504": Details(
        "The device answered and refused every key, or the key that is named can't be used here.",
        _CONTACT,
        "10.1.0.112:22 refused pi: Permission denied for user pi on host 10.1.0.112",
        (
            "Try by hand: `ssh -i KEY -p PORT USER@HOST true`.",
            "Take the key there: `ssh-copy-id -i KEY USER@HOST`.",
            "Look at the keys of this machine: `litefleet doctor`.",
        ),
        ("Permission denied (publickey).", "Permission denied (publickey,password)."),
    ),
    "LF505": Details(
        "The channel ended, or a write failed, before the device's answer was complete.",
        _CONTACT,
        "the device closed the session before it answered; its last words: Killed",
        (
            "Run the same command again: it goes on from what is there.",
            "If it comes back: `dmesg | tail` and `journalctl -u ssh -n 50` on the device.",
            "On a weak link, fewer devices at once: `rollout.parallel`, `rollout.per_jump_host`.",
        ),
        ("Connection reset by peer", "client_loop: send disconnect: Broken pipe"),
    ),
    "LF506": Details(
        "The connection stands, and nothing came for `ssh.step_time_limit_s`.",
        _CONTACT,
        "no answer to prove within 120 s",
        (
            "Look at its load: `ssh USER@HOST uptime`.",
            "If it is only slow, raise `ssh.step_time_limit_s` in litefleet.yaml.",
            "A failing SD card makes everything slow: `dmesg | grep -i mmc`.",
        ),
    ),
    "LF507": Details(
        "Every frame of the answer has a fixed form, a bounded size and known fields; this one has not.",
        _CONTACT,
        "cam-07: the answer does not begin with litefleet's mark",
        (
            "Log in without a terminal and see what is printed: `ssh USER@HOST true | od -c | head`; it must print nothing.",
            "Move `echo`, `neofetch` and the like in ~/.bashrc behind `[ -t 1 ] || return`.",
            "Check that the port is the one of this device's sshd.",
        ),
    ),
    "LF508": Details(
        "The agent's lock on the device is held by another session.",
        _CONTACT,
        "another session holds /var/lib/litefleet",
        (
            "See what is under way here: `litefleet status`.",
            "Wait until it is done, then run the same command again; a rollout tries by itself.",
        ),
    ),
    "LF509": Details(
        "Ctrl-C, SIGTERM or the end of the controller came before this device was done.",
        _CONTACT,
        "cam-07 was not done when the run was interrupted",
        ("Go on: `litefleet resume`, or the same command again.", "See what is open: `litefleet status`."),
    ),
    "LF601": Details(
        "The links under models/NAME/current are compared with the release that was confirmed, at every contact.",
        _RELEASE,
        "models/cls/current points out of litefleet's folder, to /home/pi/cls.",
        (
            "See what differs: `litefleet reconcile --limit NAME`.",
            "Bring the confirmed release back: `litefleet reconcile --repair --limit NAME`.",
            "Who changed what from here: `litefleet audit`.",
        ),
    ),
    "LF602": Details(
        "The files of the confirmed release are looked for; with `--deep` every byte is hashed again.",
        _RELEASE,
        "The model's files: changed are 3f9a1c77d0be.",
        (
            "Read every byte: `litefleet reconcile --deep --limit NAME`.",
            "Send again what is wrong: `litefleet reconcile --repair --limit NAME`.",
            "If it comes back, suspect the storage: `dmesg | grep -iE 'mmc|ext4|i/o error'`.",
        ),
    ),
    "LF603": Details(
        "The unpacked runtime's files are compared with the list that was written when it was unpacked; with `--deep` by their bytes.",
        _RELEASE,
        "The runtime 81d2f0a4c9b7 is missing.",
        (
            "Read every byte: `litefleet reconcile --deep --limit NAME`.",
            "Unpack it again: `litefleet reconcile --repair --limit NAME`.",
        ),
    ),
    "LF604": Details(
        "The environment's fingerprint (Python, libc, libraries, CPU features, the system's Paddle-Lite) is compared with that of the proof.",
        _RELEASE,
        "Release 5be01f3a9c22 was verified in another environment than this one.",
        (
            "See what the device is now: `litefleet probe --limit NAME`.",
            "Prove it again: `litefleet reconcile --repair --limit NAME`, or `litefleet verify --limit NAME`.",
        ),
    ),
    "LF605": Details(
        "A switch is made under a lease (`rollout.lease`); the agent undoes it by itself when the lease ends or the device restarts.",
        _RELEASE,
        "the lease of 5be01f3a9c22 ended before it was confirmed",
        (
            "Give it another try: `litefleet retry --failed`.",
            "See why it went back: `litefleet status`, and `last -x reboot | head` on the device.",
            "On slow links, raise `rollout.lease`.",
        ),
    ),
    "LF606": Details(
        "Each sealed release has a number that only grows; the device keeps the highest that it accepted, for each model.",
        _RELEASE,
        "the release of cls has the number 41; this device has already accepted 44",
        (
            "To bring an old file back on purpose: `litefleet rollback --to previous --limit NAME`.",
            "Else make a new rollout (`litefleet rollout`), or write the bundle anew (`litefleet bundle`).",
        ),
    ),
    "LF607": Details(
        "The seal's end is compared with the device's clock, or with the latest time that it has ever seen.",
        _RELEASE,
        "the seal of cls ended at 1764460800; this device's clock is 1795478400 (seconds since 1970)",
        (
            "Look at its clock: `ssh USER@HOST date`.",
            "Seal anew: `litefleet rollout`, or `litefleet bundle`.",
            "For bundles that travel slowly, raise `signing.expires_after`.",
        ),
    ),
    "LF608": Details(
        "The seal names its fleet, its model and its release; the device keeps the fleet of the first seal that it accepted.",
        _RELEASE,
        "this device belongs to the fleet shop; the release is sealed for lab",
        (
            "Check `fleet:` in litefleet.yaml, and whether this is the right project.",
            "A device that really moves: remove trust/accepted.json under the agent's root by hand, then `litefleet rollout`.",
        ),
    ),
    "LF609": Details(
        "The device has a list of trusted signers, and what came has no signature.",
        _RELEASE,
        "this device trusts certain signers; the seal of cls is not signed",
        (
            "Name key and list in litefleet.yaml: `signing: {key: keys/release, allowed_signers: allowed_signers}`.",
            "Make a new rollout: `litefleet rollout`.",
        ),
    ),
    "LF610": Details(
        "The device checks the signature with its own ssh-keygen against its list of trusted signers; the controller checks it before.",
        _RELEASE,
        "no signer in allowed_signers made the signature of 5be01f3a9c22.",
        (
            "See who is trusted: `cat allowed_signers`, and your key: `ssh-keygen -lf keys/release.pub`.",
            "To change the list on the devices, sign it with a key that they trust: `litefleet trust`.",
        ),
        ("Could not verify signature.", "Signature verification failed: incorrect signature"),
    ),
    "LF611": Details(
        "ssh-keygen is missing on the device, or is older than 8.2, which brought signatures.",
        _RELEASE,
        "The signature of cls was not checked here: there is no ssh-keygen.",
        ("Install it: `sudo apt-get install openssh-client`.", "Ask its version: `ssh -V`."),
    ),
    "LF612": Details(
        "What the folder holds and what would come are added up and compared with `rollout.keep.quota_mb`, after all that may go was dropped.",
        _RELEASE,
        "23000000 bytes are to be stored under /var/lib/litefleet, where 260000000 of the quota of 268435456 are used by what may not go",
        (
            "Raise `rollout.keep.quota_mb`.",
            "Or keep less: lower `rollout.keep.releases`, shorten `rollout.keep.pinned`.",
        ),
    ),
    "LF613": Details(
        "The release that was asked for is looked for on the device, with its files and its proof.",
        _RELEASE,
        "cls on cam-07: no kept and proven release begins with 5be01f",
        (
            "Go back to what ran before: `litefleet rollback --to previous --limit NAME`.",
            "Anything else is rolled out again: `litefleet rollout --limit NAME`.",
            "To keep more: raise `rollout.keep.releases`.",
        ),
    ),
    "LF614": Details(
        "The agent writes down each switch that it undid; the controller reads that at the next contact.",
        _CONTACT,
        "cls: 5be01f3a9c22 was undone: the device was restarted before the switch was confirmed",
        (
            "Look for restarts: `last -x reboot | head` on the device.",
            "Bring the release again: `litefleet retry --failed`.",
        ),
    ),
    "LF615": Details(
        "A rollout tries an offline device again and again until `rollout.retry.give_up_after`.",
        _CONTACT,
        "cam-07 could not be reached for 30.0 days",
        (
            "Bring it back, then: `litefleet retry --failed`.",
            "If it is gone for good, take it out of the inventory.",
        ),
    ),
    "LF616": Details(
        "A rollout keeps the hashes of what it was planned with; before each device they are compared with what is there now.",
        (Where.HOST,),
        "cam-07 is no longer in the inventory",
        (
            "See what the rollout is and how it stands: `litefleet status`.",
            "Plan anew with what there is: `litefleet rollout --supersede`.",
            "Or put the planned files back, and go on: `litefleet resume`.",
        ),
    ),
    "LF617": Details(
        "The bundle's signed index names the SHA-256 of each part; the parts are hashed before anything is unpacked.",
        (Where.FILE, Where.RELEASE),
        "the bundle is damaged: blobs/3f9a1c77d0be has another hash than the index names",
        (
            "Compare: `sha256sum fleet.bundle` here and on the stick.",
            "Write it anew: `litefleet bundle --out fleet.bundle`, and unmount the stick before it is pulled out.",
        ),
    ),
    "LF618": Details(
        "The service compares the wall clock with the latest release that was accepted or proven there, and with the time since the start.",
        (Where.DEVICE,),
        "the clock says 2021-01-01T00:00:12Z, and a release was proven here at 2026-03-01T10:00:00Z",
        (
            "On the device, see clock and time service: `timedatectl status`.",
            "Then look again: `litefleet status`.",
        ),
    ),
    "LF619": Details(
        "`litefleet infer` and `bench` ask the device for a model of which its store has no current release.",
        _RELEASE,
        "no release of cls is current on this device, which runs det, rec: roll it out first",
        (
            "See what the device runs: `litefleet status`.",
            "Roll the model out: `litefleet rollout -m MODEL --limit NAME`.",
        ),
    ),
    "LF620": Details(
        "The service answers a request with `busy`, before anything of it is run.",
        (Where.RUN,),
        "the queue of cls is full (32 requests wait); try again later",
        (
            "On the device, see how long the queue is: `litefleet-agent status`.",
            "Measure what the device can do: `litefleet bench --limit NAME --workers 1,2`.",
        ),
    ),
    "LF900": Details(
        "Anything that no other row explains; its own words follow.",
        (Where.CONTACT, Where.DEVICE, Where.RUN),
        "The model's process ended early with exit code 0, while loading.",
        (
            "Read the text; it says what was seen.",
            "Ask for more: `litefleet verify --limit NAME --json`.",
            "If it is a program's output, have it explained: `litefleet doctor --log FILE`.",
        ),
    ),
}
