"""Details: reaching the device, releases on it, and rollouts."""

from __future__ import annotations

from collections.abc import Mapping

from .entry import Details, Where

_CONTACT = (Where.CONTACT,)
_RELEASE = (Where.RELEASE,)

FLEET: Mapping[str, Details] = {
    "LF501": Details(
        "The SSH connection was refused or exceeded `ssh.connect_time_limit_s`, or the name could not be resolved.",
        _CONTACT,
        "10.1.0.112:22 did not answer within the time limit",
        (
            "Try by hand: `ssh -p PORT USER@HOST true`.",
            "Check that the port is open: `nc -vz HOST 22`.",
            "If the device is behind another machine, name that machine in the inventory: `jump: user@host:port`.",
        ),
        (
            "ssh: connect to host ... port 22: Connection refused",
            "ssh: connect to host ... port 22: No route to host",
            "ssh: Could not resolve hostname",
        ),
    ),
    "LF502": Details(
        "The key that the device presents is in neither `host_key:`, `ssh.known_hosts` nor the project's own pins.",
        _CONTACT,
        "10.1.0.112:22 shows SHA256:Qm1m...k4 (ssh-ed25519), which nobody has confirmed",
        (
            "Read the fingerprint at the device itself: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`.",
            "If the fingerprints are equal, pin the key: `litefleet probe --limit NAME --accept-new-host-keys`.",
            "Or write it into the inventory: `host_key: ssh-ed25519 AAAA...`.",
        ),
        ("The authenticity of host ... can't be established.", "Host key verification failed."),
    ),
    "LF503": Details(
        "A key for this device is known, and the device presents another key, or one that is marked as revoked.",
        _CONTACT,
        "10.1.0.112:22 shows SHA256:Qm1m...k4, known is SHA256:9f3c...Zo",
        (
            "Find out whether somebody reinstalled the device. If nobody did, do not log in.",
            "Compare at the device itself: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`.",
            "Then accept the new key: `litefleet accept-key NAME` shows the old and the new fingerprint, and asks.",
        ),
        ("WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!",),
    ),
    "LF504": Details(
        "The device answered and refused every key that was offered, or disconnected after a number of them.",
        _CONTACT,
        "10.1.0.112:22 refused pi: Permission denied for user pi on host 10.1.0.112",
        (
            "Try by hand: `ssh -i KEY -p PORT USER@HOST true`.",
            "Copy the key to the device: `ssh-copy-id -i KEY USER@HOST`.",
            'After "too many keys": name the right one with `key:` in the inventory, or with IdentityFile and IdentitiesOnly in ~/.ssh/config.',
            "Check the keys of this machine: `litefleet doctor`.",
        ),
        (
            "Permission denied (publickey).",
            "Permission denied (publickey,password).",
            "Received disconnect from ...: Too many authentication failures",
        ),
    ),
    "LF505": Details(
        "The channel ended, or a write failed, before the device's answer was complete.",
        _CONTACT,
        "the device closed the session before it answered; its last words: Killed",
        (
            "Run the same command again: it continues with the files that are already on the device.",
            "If it recurs: `dmesg | tail` and `journalctl -u ssh -n 50` on the device.",
            "On a weak link, limit the number of devices: `rollout.parallel`, `rollout.per_jump_host`.",
        ),
        ("Connection reset by peer", "client_loop: send disconnect: Broken pipe"),
    ),
    "LF506": Details(
        "The connection is open, and the device sent nothing for `ssh.step_time_limit_s`.",
        _CONTACT,
        "no answer to prove within 120 s",
        (
            "Check the device's load: `ssh USER@HOST uptime`.",
            "If the device is only slow, raise `ssh.step_time_limit_s` in litefleet.yaml.",
            "A failing SD card makes everything slow: `dmesg | grep -i mmc`.",
        ),
    ),
    "LF507": Details(
        "Every frame of the answer must have a fixed form, a bounded size and known fields; this frame does not.",
        _CONTACT,
        "cam-07: the answer does not begin with litefleet's mark",
        (
            "Log in without a terminal: `ssh USER@HOST true | od -c | head` must print nothing.",
            "Move `echo`, `neofetch` and the like in ~/.bashrc behind `[ -t 1 ] || return`.",
            "Check that the port is the one of this device's sshd.",
        ),
    ),
    "LF508": Details(
        "Another session holds the agent's lock on the device.",
        _CONTACT,
        "another session holds /var/lib/litefleet",
        (
            "Show running work from this machine: `litefleet status`.",
            "Wait until it is done, then run the same command again; a rollout retries by itself.",
        ),
    ),
    "LF509": Details(
        "Ctrl-C, SIGTERM or the controller's end stopped the run before this device was done.",
        _CONTACT,
        "cam-07 was not done when the run was interrupted",
        ("Continue: `litefleet resume`, or the same command again.", "Show open rollouts: `litefleet status`."),
    ),
    "LF510": Details(
        "The session ended, or something else answered, before `sh` had begun; the device's output and the shell's exit code are quoted.",
        _CONTACT,
        "cam-07 closed the session before it started sh (exit code 1); it said: This account is currently not available.",
        (
            "Try by hand: `ssh -p PORT USER@HOST 'sh -c true'; echo $?` must print 0 and nothing else.",
            "Show the login shell: `getent passwd USER` on the device; change it: `chsh -s /bin/sh USER`.",
            "Begin ~/.bashrc (or ~/.cshrc, config.fish) with a line that ends it without a terminal: `[ -t 1 ] || return`.",
            "Look for `ForceCommand` in sshd_config and `command=` in ~/.ssh/authorized_keys.",
        ),
        (
            "This account is currently not available.",
            "rbash: /bin/sh: restricted: cannot specify `/' in command names",
            "sh: not found",
        ),
    ),
    "LF511": Details(
        "The SSH handshake ended because one list of algorithms of the server has no entry that litefleet offers.",
        _CONTACT,
        "10.1.0.112:22 offers only ssh-rsa (SHA-1) as host key algorithm",
        (
            "Show what the server offers: `ssh -vv -p PORT USER@HOST true 2>&1 | grep -A12 'peer server KEXINIT'`.",
            "Update the SSH server of the device (OpenSSH 7.2, dropbear 2020.79 or later).",
            "Otherwise permit SHA-1 and CBC for this device alone: `legacy: true` in the inventory.",
        ),
        (
            "no matching host key type found. Their offer: ssh-rsa",
            "no matching key exchange method found. Their offer: diffie-hellman-group14-sha1",
            "no matching cipher found. Their offer: aes128-cbc",
        ),
    ),
    "LF512": Details(
        "The jump host was reached and refused to forward, or the ProxyCommand could not be started.",
        _CONTACT,
        "the jump host gw.example.org:22 refuses to forward to 10.1.0.112:22: administratively prohibited",
        (
            "Try by hand: `ssh -J USER@JUMPHOST USER@HOST true`.",
            "On the jump host: `sshd -T | grep -i -e allowtcpforwarding -e permitopen`.",
            "For a ProxyCommand: run it by hand; it must print the line that begins with `SSH-2.0-`.",
        ),
        ("channel 0: open failed: administratively prohibited: open failed", "stdio forwarding failed"),
    ),
    "LF513": Details(
        "Two devices of one run proved to hold the same SSH host key.",
        _CONTACT,
        "cam-07 and cam-08 show the same host key SHA256:Qm1m...k4, and the same boot: one machine under two names",
        (
            "Compare: `ssh USER@HOST cat /etc/machine-id /proc/sys/kernel/random/boot_id` on both.",
            "One machine: remove one of the names from the inventory.",
            "Clones: `rm /etc/ssh/ssh_host_*; ssh-keygen -A` on one of them, restart sshd, and pin the new key.",
        ),
    ),
    "LF514": Details(
        "The kernel refused a file, a process or a descriptor with an error that only a limit of the login causes; the limit's value is read from the process.",
        (Where.CONTACT, Where.DEVICE),
        "cam-07: the login limits files to 307200 bytes (ulimit -f): File too large",
        (
            "Show the limits of the login: `ssh USER@HOST 'ulimit -a'`.",
            "Look for `ulimit` in ~/.bashrc, ~/.profile and /etc/profile, and in /etc/security/limits.conf.",
            "For sshd's own limits: `systemctl show ssh | grep ^Limit`.",
        ),
        ("File size limit exceeded", "fork: retry: Resource temporarily unavailable", "Too many open files"),
    ),
    "LF601": Details(
        "At every contact, litefleet compares the links under models/NAME/current with the confirmed release.",
        _RELEASE,
        "models/cls/current points out of litefleet's folder, to /home/pi/cls.",
        (
            "Show the differences: `litefleet reconcile --limit NAME`.",
            "Restore the confirmed release: `litefleet reconcile --repair --limit NAME`.",
            "Show the changes made from this machine: `litefleet audit`.",
        ),
    ),
    "LF602": Details(
        "litefleet checks that the files of the confirmed release exist; with `--deep` it hashes every byte again.",
        _RELEASE,
        "The model's files: changed are 3f9a1c77d0be.",
        (
            "Read every byte: `litefleet reconcile --deep --limit NAME`.",
            "Send the damaged or missing files again: `litefleet reconcile --repair --limit NAME`.",
            "If it recurs, check the storage: `dmesg | grep -iE 'mmc|ext4|i/o error'`.",
        ),
    ),
    "LF603": Details(
        "litefleet compares the unpacked runtime's files with the list that the agent wrote when it unpacked them; with `--deep` it compares their bytes.",
        _RELEASE,
        "The runtime 81d2f0a4c9b7 is missing.",
        (
            "Read every byte: `litefleet reconcile --deep --limit NAME`.",
            "Unpack it again: `litefleet reconcile --repair --limit NAME`.",
        ),
    ),
    "LF604": Details(
        "litefleet compares the environment's fingerprint (Python, libc, libraries, CPU features, the system's Paddle-Lite) with that of the proof.",
        _RELEASE,
        "Release 5be01f3a9c22 was verified in another environment than this one.",
        (
            "Show the device's current facts: `litefleet probe --limit NAME`.",
            "Prove it again: `litefleet reconcile --repair --limit NAME`, or `litefleet verify --limit NAME`.",
        ),
    ),
    "LF605": Details(
        "A switch has a lease (`rollout.lease`); the agent reverts the switch by itself when the lease expires or the device restarts.",
        _RELEASE,
        "the lease of 5be01f3a9c22 ended before it was confirmed",
        (
            "Retry: `litefleet retry --failed`.",
            "Find the reason: `litefleet status`, and `last -x reboot | head` on the device.",
            "On slow links, raise `rollout.lease`.",
        ),
    ),
    "LF606": Details(
        "Each sealed release has a number that only increases; the device stores the highest number that it accepted for each model.",
        _RELEASE,
        "the release of cls has the number 41; this device has already accepted 44",
        (
            "To return to an old release on purpose: `litefleet rollback --to previous --limit NAME`.",
            "Otherwise start a new rollout (`litefleet rollout`), or write the bundle again (`litefleet bundle`).",
        ),
    ),
    "LF607": Details(
        "The device compares the seal's expiry with its clock and with the latest time that it has ever seen.",
        _RELEASE,
        "the seal of cls ended at 1764460800; this device's clock is 1795478400 (seconds since 1970)",
        (
            "Check the device's clock: `ssh USER@HOST date`.",
            "Make a new seal: `litefleet rollout`, or `litefleet bundle`.",
            "For bundles that take long to arrive, raise `signing.expires_after`.",
        ),
    ),
    "LF608": Details(
        "The seal names its fleet, its model and its release; the device stores the fleet of the first seal that it accepted.",
        _RELEASE,
        "this device belongs to the fleet shop; the release is sealed for lab",
        (
            "Check `fleet:` in litefleet.yaml, and whether this is the right project.",
            "To move a device to another fleet, delete trust/accepted.json under the agent's root by hand, then `litefleet rollout`.",
        ),
    ),
    "LF609": Details(
        "The device has a list of trusted signers, and the received release has no signature.",
        _RELEASE,
        "this device trusts certain signers; the seal of cls is not signed",
        (
            "Set the key and the list in litefleet.yaml: `signing: {key: keys/release, allowed_signers: allowed_signers}`.",
            "Start a new rollout: `litefleet rollout`.",
        ),
    ),
    "LF610": Details(
        "The device checks the signature with its own ssh-keygen against its list of trusted signers; the controller has checked it before.",
        _RELEASE,
        "no signer in allowed_signers made the signature of 5be01f3a9c22.",
        (
            "Show the trusted signers: `cat allowed_signers`, and your key: `ssh-keygen -lf keys/release.pub`.",
            "To change the list on the devices, sign it with a key that they trust: `litefleet trust`.",
        ),
        ("Could not verify signature.", "Signature verification failed: incorrect signature"),
    ),
    "LF611": Details(
        "ssh-keygen is missing on the device, or is older than 8.2, the first version that supports signatures.",
        _RELEASE,
        "The signature of cls was not checked here: there is no ssh-keygen.",
        ("Install it: `sudo apt-get install openssh-client`.", "Check its version: `ssh -V`."),
    ),
    "LF612": Details(
        "The agent deletes what it may, adds the size of its folder and of the files to receive, and compares the sum with `rollout.keep.quota_mb`.",
        _RELEASE,
        "23000000 bytes are to be stored under /var/lib/litefleet, where 260000000 of the quota of 268435456 are used by what may not go",
        (
            "Raise `rollout.keep.quota_mb`.",
            "Or keep fewer releases: lower `rollout.keep.releases`, shorten `rollout.keep.pinned`.",
        ),
    ),
    "LF613": Details(
        "The agent searches the device for the requested release, its files and its proof.",
        _RELEASE,
        "cls on cam-07: no kept and proven release begins with 5be01f",
        (
            "Revert to the previous release: `litefleet rollback --to previous --limit NAME`.",
            "To install any other release, start a rollout: `litefleet rollout --limit NAME`.",
            "To keep more: raise `rollout.keep.releases`.",
        ),
    ),
    "LF614": Details(
        "The agent records each switch that it reverted; the controller reads the record at the next contact.",
        _CONTACT,
        "cls: 5be01f3a9c22 was undone: the device was restarted before the switch was confirmed",
        (
            "Check for restarts: `last -x reboot | head` on the device.",
            "Switch to the release again: `litefleet retry --failed`.",
        ),
    ),
    "LF615": Details(
        "A rollout retries an offline device until `rollout.retry.give_up_after`.",
        _CONTACT,
        "cam-07 could not be reached for 30.0 days",
        (
            "Make the device reachable, then: `litefleet retry --failed`.",
            "If the device no longer exists, remove it from the inventory.",
        ),
    ),
    "LF616": Details(
        "A rollout stores the hashes of the files that it was planned with; before each device litefleet compares them with the current files.",
        (Where.HOST,),
        "cam-07 is no longer in the inventory",
        (
            "Show the rollout and its state: `litefleet status`.",
            "Make a new plan with the current files: `litefleet rollout --supersede`.",
            "Or restore the planned files, and continue: `litefleet resume`.",
        ),
    ),
    "LF617": Details(
        "The bundle's signed index contains the SHA-256 of each part; the agent hashes the parts before it unpacks anything.",
        (Where.FILE, Where.RELEASE),
        "the bundle is damaged: blobs/3f9a1c77d0be has another hash than the index names",
        (
            "Compare: `sha256sum fleet.bundle` here and on the stick.",
            "Write the bundle again: `litefleet bundle --out fleet.bundle`, and unmount the stick before you remove it.",
        ),
    ),
    "LF618": Details(
        "The service compares the wall clock with the time of the latest release that the device accepted or proved, and with the time since the start.",
        (Where.DEVICE,),
        "the clock says 2021-01-01T00:00:12Z, and a release was proven here at 2026-03-01T10:00:00Z",
        (
            "On the device, check the clock and the time service: `timedatectl status`.",
            "Then check again: `litefleet status`.",
        ),
    ),
    "LF619": Details(
        "`litefleet infer` or `bench` requested a model of which the device has no current release.",
        _RELEASE,
        "no release of cls is current on this device, which runs det, rec: roll it out first",
        (
            "Show the device's releases: `litefleet status`.",
            "Roll the model out: `litefleet rollout -m MODEL --limit NAME`.",
        ),
    ),
    "LF620": Details(
        "The service answers a request with `busy` before it runs any of it.",
        (Where.RUN,),
        "the queue of cls is full (32 requests wait); try again later",
        (
            "On the device, show the length of the queue: `litefleet-agent status`.",
            "Measure what the device can do: `litefleet bench --limit NAME --workers 1,2`.",
        ),
    ),
    "LF621": Details(
        "The agent reads service.json below its root before it starts a worker, and refuses what it does not know.",
        (Where.RUN,),
        "service.json has no setting `batch_wait_ms`; did you mean `batch_wait_s`?",
        (
            "On the device, correct the file: the settings and their ranges are in docs/service.md.",
            "Repeat the command; a running service reads the file when it starts.",
        ),
    ),
    "LF630": Details(
        "A device keeps, with its last switch, the fleet, the id of the state that asked for it and that state's number. `plan`, `rollout`, `reconcile`, "
        "`rollback` and `resume` compare them with the state at hand before they change anything.",
        (Where.CONTACT,),
        "last switched under number 57, and this state knows only 40: it is older",
        (
            "Show the state at hand: `litefleet state show`.",
            "If a later copy exists (another machine, a newer backup), put it in place and run the command again.",
            "Otherwise see what would be adopted: `litefleet state adopt --dry-run`; then without `--dry-run`.",
            "To roll out in spite of it: `litefleet rollout --take-over`.",
        ),
    ),
    "LF631": Details(
        "`litefleet reconcile` finds the release of the latest rollout on a device where that rollout counts it as failed.",
        (Where.CONTACT,),
        "cls runs as 0a5b9c1d2e3f, which failed in r-20261123-0001",
        (
            "Show why it counts as failed: `litefleet status ID`.",
            "Check the device again: `litefleet retry --failed ID`.",
            "Or revert it: `litefleet rollback --rollout ID --limit NAME`.",
        ),
    ),
    "LF900": Details(
        "A failure that no other finding explains; its own message follows.",
        (Where.CONTACT, Where.DEVICE, Where.RUN),
        "The model's process ended early with exit code 0, while loading.",
        (
            "Read the message; it describes the failure.",
            "Show the details: `litefleet verify --limit NAME --json`.",
            "If it is a program's output, have it explained: `litefleet doctor --log FILE`.",
        ),
    ),
}
