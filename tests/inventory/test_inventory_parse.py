"""The YAML form: what it means, and what it says when something is wrong."""

import pytest
from litefleet_inventory import Device, InventoryError
from litefleet_inventory.parse import parse, parse_documents

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxpdGVmbGVldCBleGFtcGxlLCBub3QgYSByZWFsIGtl"


def problems(text: str) -> list[str]:
    with pytest.raises(InventoryError) as caught:
        parse(text)
    return [str(p) for p in caught.value.problems]


def test_every_setting_arrives() -> None:
    inventory = parse(f"""
devices:
  cam-01:
    host: 10.0.0.1
    port: 2222
    user: edge
    key: ~/.ssh/id
    jump: ops@gw.example:2200
    python: /usr/bin/python3.8
    root: /data/litefleet
    arch: aarch64
    tags: [a, b, a]
    host_key: ["{KEY}", "{KEY} a comment"]
    artifact: models/x.nb
    runtime: built
    model: cls
""")
    assert inventory.devices == (
        Device(
            name="cam-01",
            host="10.0.0.1",
            port=2222,
            user="edge",
            key="~/.ssh/id",
            jump="ops@gw.example:2200",
            python="/usr/bin/python3.8",
            root="/data/litefleet",
            arch="aarch64",
            tags=("a", "b"),
            host_keys=(KEY, KEY + " a comment"),
            artifact="models/x.nb",
            runtime="built",
            model="cls",
        ),
    )
    assert inventory.devices[0].source == "fleet.yaml:3"


@pytest.mark.parametrize("value", ["true", "no", "~", "[a, {b: c}]"])
def test_a_retired_setting_of_an_old_inventory_is_ignored(value: str) -> None:
    old = f"privileged: {value}"
    text = f"defaults: {{{old}}}\ngroups: {{g: {{{old}, devices: {{a: {{{old}}}}}}}}}"
    assert parse(text).devices == (Device("a", "a", groups=("g",)),)


@pytest.mark.parametrize("text", ["", "# nothing\n", "devices:\n", "devices: {}\ngroups:\ndefaults: ~\n", "---\n...\n"])
def test_an_empty_inventory_is_one(text: str) -> None:
    assert parse(text).devices == ()


def test_a_device_without_settings_is_reached_by_its_name() -> None:
    assert parse("devices: {no: , cam-7: ~}\n").devices == (Device("no", "no"), Device("cam-7", "cam-7"))


PRECEDENCE = """
defaults: {user: d, port: 1000, key: d, python: /d, tags: [d]}
groups:
  inner: {python: /inner, tags: inner, devices: {a: {host: a1, user: own, tags: [own]}}}
  first: {key: first, port: 1001, devices: [a]}
  outer: {children: [inner], python: /outer, key: outer}
"""


def test_precedence_defaults_then_groups_deeper_later_then_the_device() -> None:
    device = parse(PRECEDENCE).by_name["a"]
    assert device.user == "own"  # the device itself
    assert device.python == "/inner"  # deeper beats outer, though written before it
    assert device.key == "outer"  # same depth: the later one
    assert device.port == 1001
    assert device.groups == ("first", "outer", "inner")
    assert device.tags == ("d", "inner", "own")


def test_null_takes_an_inherited_setting_back() -> None:
    device = parse("defaults: {user: x, port: 23, tags: [t]}\ndevices: {a: {user: ~, port: null, tags: ~}}").devices[0]
    assert (device.user, device.port, device.tags) == ("", 22, ())


def test_groups_count_the_devices_of_their_children() -> None:
    inventory = parse("groups:\n  g: {children: [h]}\n  h: {devices: {x: , y: }}\ndevices: {z: }\n")
    assert [(g.name, g.devices) for g in inventory.groups] == [("g", ("x", "y")), ("h", ("x", "y"))]
    assert [d.name for d in inventory.devices] == ["x", "y", "z"]


def test_ranges_keep_padding_and_run_in_step() -> None:
    devices = parse("""
devices:
  cam-[08:10]:
    host: 10.0.0.[1:3]
    port: 22{0n}
    key: keys/{name}-{n}
  r[1:2]-[01:03:2]:
    host: h{n}-{n2}-{0n2}.example
""").devices
    assert [(d.name, d.host, d.port, d.key) for d in devices[:3]] == [
        ("cam-08", "10.0.0.1", 2208, "keys/cam-08-8"),
        ("cam-09", "10.0.0.2", 2209, "keys/cam-09-9"),
        ("cam-10", "10.0.0.3", 2210, "keys/cam-10-10"),
    ]
    assert [(d.name, d.host) for d in devices[3:]] == [
        ("r1-01", "h1-1-01.example"),
        ("r1-03", "h1-3-03.example"),
        ("r2-01", "h2-1-01.example"),
        ("r2-03", "h2-3-03.example"),
    ]


def test_a_placeholder_in_the_defaults_serves_every_device() -> None:
    devices = parse("defaults: {host: '{name}.example'}\ndevices: {a: , b: }").devices
    assert [d.host for d in devices] == ["a.example", "b.example"]


def test_merge_keys_and_anchors() -> None:
    text = "x-base: &base {user: u, port: 24}\ndevices:\n  a:\n    <<: *base\n    port: 25\n  b: *base\n"
    assert [(d.user, d.port) for d in parse(text).devices] == [("u", 25), ("u", 24)]


def test_jump_chains_follow_device_names() -> None:
    text = "devices: {gw: {jump: 'ops@edge.example:22'}, mid: {jump: gw}, far: {jump: mid}}"
    inventory = parse(text)
    far = inventory.by_name["far"]
    assert inventory.jump_chain(far) == ("ops@edge.example:22", inventory.by_name["gw"], inventory.by_name["mid"])


def test_all_problems_come_at_once_with_line_and_path() -> None:
    assert problems("""defaults:
  usr: edge
groups:
  berlin:
    devices: [cam-1, ghost-device-x]
    children: [munch]
  munich:
devices:
  cam-01:
    hostnmae: x
    port: 70000
    password: hunter2
    become: yes
  bad name: {}
device: {}
""") == [
        "fleet.yaml:2: defaults.usr: unknown key; did you mean 'user'?",
        "fleet.yaml:5: groups.berlin.devices: no device 'cam-1'; did you mean 'cam-01'?",
        "fleet.yaml:5: groups.berlin.devices: no device 'ghost-device-x'; define it under `devices:`",
        "fleet.yaml:6: groups.berlin.children: no group 'munch'; did you mean 'munich'?",
        "fleet.yaml:10: devices.cam-01.hostnmae: unknown key; did you mean 'host'?",
        "fleet.yaml:11: devices.cam-01.port: expected a port from 1 to 65535, found 70000",
        "fleet.yaml:12: devices.cam-01.password: secrets do not belong in the inventory; "
        "use an SSH key (`key:` names its file) or the SSH agent",
        "fleet.yaml:13: devices.cam-01.become: unknown key; the agent needs no root rights, leave it out "
        "(`litefleet provision --as` names an admin login)",
        "fleet.yaml:14: devices.bad name: the name 'bad name' contains white space or control characters",
        "fleet.yaml:15: device: unknown key; did you mean 'devices'?",
    ]


ONE = {  # a device's settings, and what is said about them
    "ansible_host: x": "ansible_host: unknown key; did you mean 'host'?",
    "become_pass: x": "become_pass: secrets do not belong in the inventory; "
    "use an SSH key (`key:` names its file) or the SSH agent",
    "host: -oProxyCommand=x": "host: the host '-oProxyCommand=x' begins with '-', so it could be taken for an option",
    "host: 'a b'": "host: the host 'a b' contains white space or control characters",
    'host: "a\\nb"': "host: the host 'a\\nb' contains white space or control characters",
    "host: me:secret@x": "host: a host contains no '@'; write the user as `user:`",
    "host: x:22": "host: the host 'x:22' contains a ':'; write the port as `port:`",
    "host: '[::1]'": "host: the host '[::1]' has brackets; write an IPv6 address without them, the port as `port:`",
    "host: 10.0.0.300": "host: the host '10.0.0.300' is not an IPv4 address (Octet 300 (> 255) not permitted in "
    "'10.0.0.300')",
    "host: ''": "host: the host is empty; leave the line out, or write a value",
    "host: [a]": "host: expected text, found a list",
    "host: true": "host: expected text, found the boolean true; put it in quotes if it is meant",
    "user: 1000": "user: expected text, found the number 1000; put it in quotes if it is meant",
    "user: -l": "user: the user '-l' begins with '-', so it could be taken for an option",
    "port: 022": "port: the port 022 begins with 0, which YAML readers take for octal; write it without",
    "port: ssh": "port: expected a port from 1 to 65535, found 'ssh'",
    "port: {a: 1}": "port: expected a port from 1 to 65535, found a mapping",
    "arch: aarch46": "arch: unknown architecture 'aarch46'; did you mean 'aarch64'?",
    "root: /": "root: the root '/' is a whole file system or home; name a folder for litefleet alone",
    "root: /a/../b": "root: the root '/a/../b' contains '..'; write the folder itself",
    "root: data": "root: the root 'data' must begin with '/' or '~/'",
    "tags: {a: b}": "tags: expected a list of texts, found a mapping",
    "tags: [a, '!b']": "tags: the tag '!b' may hold letters, digits and . _ = : / - only, "
    "and begins with a letter or digit",
    "host_key: SHA256:abc": "host_key: this is a fingerprint; write the public key itself, 'ssh-ed25519 AAAA...'",
    f"host_key: cam {KEY}": "host_key: this is a known_hosts line; leave its first word out",
    f"host_key: {KEY[:40]}": "host_key: the key data is not a whole ssh-ed25519 key; was the line cut?",
    "jump: a@b:c@d": "jump: the user of a jump host contains a ':'; secrets do not belong in the inventory; "
    "use an SSH key (`key:` names its file) or the SSH agent",
    "jump: a@b:99999": "jump: expected a port from 1 to 65535, found 99999",
    "jump: bastion": "jump: no device 'bastion'; for a host of that name write 'bastion:22'",
    "jump: d": "jump: jump hosts form a cycle: d -> d",
    "port: 22[1:3]": "port: a range here needs a range in the device's name, such as cam-[01:40] (for device 'd')",
    "key: k-{n}": "key: {n} needs a range in the device's name (for device 'd')",
    "model: ../x": "model: the name '../x' may hold letters, digits, '.', '_' and '-' only, "
    "and begins with a letter or digit",
}


@pytest.mark.parametrize("setting", ONE)
def test_what_is_said_about_one_setting(setting: str) -> None:
    assert problems(f"devices:\n  d:\n    {setting}\n") == [f"fleet.yaml:3: devices.d.{ONE[setting]}"]


def test_a_cut_key_is_not_taken_for_a_key() -> None:
    (said,) = problems(f"devices: {{d: {{host_key: '{KEY[:-1]}'}}}}")
    assert said.endswith("the key data after 'ssh-ed25519' is not base64; was the line cut?")


WHOLE = {
    "[1, 2]": "fleet.yaml:1: expected a mapping with defaults / groups / devices, found a list",
    "devices: {a: &x {}}\n---\nb: 1\n": "fleet.yaml:2: a second document begins here; write one document per file",
    "devices: *nope": "fleet.yaml:1: alias *nope has no anchor &nope above it",
    "devices: &d\n  a: *d": "fleet.yaml:2: alias *d is inside its own anchor",
    "devices:\n  a: !!python/object:os.system {}": "fleet.yaml:2: devices.a: "
    "YAML tags (!...) are not supported; leave it out",
    "devices:\n  a: {}\n  a: {}": "fleet.yaml:3: devices.a: written twice; first on line 2",
    "devices:\n  ? [a]\n  : b": "fleet.yaml:2: a key is a list; keys are names "
    "(put a name with brackets in quotes inside {...})",
    "devices:\n  a: [1\n  b: 2\n": "fleet.yaml:3: not valid YAML: while parsing a flow sequence that begins on line 2, "
    "did not find expected ',' or ']'",
    "a: [1": "fleet.yaml:1: not valid YAML: while parsing a flow sequence did not find expected ',' or ']'",
    "devices:\n  a: \0": "fleet.yaml:2: a NUL byte; this is not a YAML text file",
    "devices:\n  all: {}": "fleet.yaml:2: devices.all: the name 'all' is taken: it means every device",
    "devices:\n  c[3:1]: {}": "fleet.yaml:2: devices.c[3:1]: "
    "range [3:1] runs backwards; write the smaller number first",
    "devices:\n  c[1:999999999]: {}": "fleet.yaml:2: devices.c[1:999999999]: "
    "range [1:999999999] makes more than 100,000 names",
    "devices:\n  c[1:999][1:999]: {}": "fleet.yaml:2: devices.c[1:999][1:999]: "
    "'c[1:999][1:999]' makes more than 100,000 names",
    "devices:\n  c[1-3]: {}": "fleet.yaml:2: devices.c[1-3]: "
    "the name 'c[1-3]' may hold letters, digits, '.', '_' and '-' "
    "only, and begins with a letter or digit; a range is written [01:40]",
    "devices:\n  c[1:3]: {host: 'h[1:2]'}": "fleet.yaml:2: devices.c[1:3].host: "
    "makes 2 values for 3 devices; the two must be equally many (for device 'c1')",
    "devices:\n  c[01:03]: {host: '10.0.0.{0n}'}": "fleet.yaml:2: devices.c[01:03].host: "
    "the host '10.0.0.01' is not an "
    "IPv4 address (Leading zeros are not permitted in '01' in '10.0.0.01'); use {n} for a number without zeros "
    "(for device 'c01')",
    "devices:\n  a: {host: x}\n  b: {host: X}": "fleet.yaml:3: devices.b.host: "
    "'b' and 'a' (fleet.yaml:2) are both x:22; one machine, one device",
    "devices:\n  a: {host: x}\ngroups:\n  g: {devices: {a: {host: y}}}": "fleet.yaml:4: groups.g.devices.a: "
    "device 'a' is defined twice; first at fleet.yaml:2",
    "groups: {g: }\ndevices: {g: }": "fleet.yaml:1: groups.g: 'g' is also a device's name, at fleet.yaml:2; rename one",
    "devices: [a]": "fleet.yaml:1: devices: expected a mapping, found a list",
}


@pytest.mark.parametrize("text", WHOLE)
def test_what_is_said_about_the_whole(text: str) -> None:
    assert problems(text) == [WHOLE[text]]


def test_groups_in_a_circle_are_named() -> None:
    assert problems("groups:\n  g: {children: [h]}\n  h: {children: [g, k]}\n  k: {children: [l]}\n  l:\n") == [
        "fleet.yaml:3: groups.h.children: groups contain each other: g -> h -> g",
    ]


def test_hosts_are_folded_as_openssh_does() -> None:
    text = "devices: {Cam-1: , b: {host: GW.Example, jump: Ops@Edge.Example:22}, c: {host: 'FD00:0::0AB', jump: Cam-1}}"
    assert [(d.name, d.host, d.jump) for d in parse(text).devices] == [
        ("Cam-1", "cam-1", ""),
        ("b", "gw.example", "Ops@edge.example:22"),
        ("c", "fd00::ab", "Cam-1"),
    ]


def test_two_spellings_of_one_address_are_one_machine() -> None:
    (problem,) = problems("devices:\n  a: {host: '::1'}\n  b: {host: '0:0::1'}\n")
    assert problem.endswith("'b' and 'a' (fleet.yaml:2) are both [::1]:22; one machine, one device")


def test_one_machine_behind_two_jump_hosts_is_two_machines() -> None:
    text = "devices: {a: {host: 10.0.0.1, jump: 'x:22'}, b: {host: 10.0.0.1, jump: 'y:22'}}"
    assert len(parse(text).devices) == 2


def test_an_address_that_is_wrong_is_not_called_a_duplicate() -> None:
    assert problems("devices:\n  a: {host: x, prot: 23}\n  b: {host: x}\n  c: {host: x, port: x}\n") == [
        "fleet.yaml:2: devices.a.prot: unknown key; did you mean 'port'?",
        "fleet.yaml:4: devices.c.port: expected a port from 1 to 65535, found 'x'",
    ]


def test_a_secret_is_never_repeated() -> None:
    text = (
        "devices:\n  a:\n    password: hunter2\n    sudo_passwd: hunter2\n    host: me:hunter2@x\n    jump: m:hunter2@y"
    )
    assert "hunter2" not in "\n".join(problems(text))
    assert len(problems(text)) == 4


def test_several_files_are_one_inventory() -> None:
    site = ("site.yaml", "groups: {berlin: {devices: {a: {host: 10.0.0.1}}}}")
    inventory = parse_documents([("all.yaml", "defaults: {user: u}\ngroups: {berlin: {port: 23}}"), site])
    assert inventory.devices[0].user == "u"
    assert inventory.devices[0].port == 23
    with pytest.raises(InventoryError) as caught:
        parse_documents([site, ("two.yaml", "devices:\n  a: {host: b}\n"), ("three.yaml", "x: [")])
    assert [str(p) for p in caught.value.problems] == [
        "two.yaml:2: devices.a: device 'a' is defined twice; first at site.yaml:1",
        "three.yaml:1: not valid YAML: while parsing a flow node did not find expected node content",
    ]
