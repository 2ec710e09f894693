"""Inventories of other tools: Ansible's forms with its precedence, ssh_config as OpenSSH reads it, CSV, NetBox."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from litefleet_inventory import Inventory, InventoryError, load
from litefleet_inventory.foreign import convert, guess_kind, is_script

_INI = """\
gw ansible_host=gw.example.com
[cams]
cam-[01:03].hall.example ansible_port=2222
cam-09:2022 ansible_host=10.0.0.9 ansible_user=own ansible_ssh_common_args='-o ProxyJump=edge@gw.example.com:2200'
local ansible_connection=local
[cams:vars]
ansible_user=edge
ansible_python_interpreter=auto
ntp_server=10.1.1.1
ansible_shell_executable=/bin/dash
[site:children]
cams
[all:vars]
ansible_ssh_private_key_file=~/.ssh/fleet
ansible_user=everybody
ansible_become=yes
"""
_YAML = """\
all:
  vars: {ansible_user: pi}
  hosts:
    lonely: {ansible_host: 192.0.2.4, ansible_user: "{{ who }}"}
  children:
    dock:
      hosts: {"dock-[1:2]":, secret: {ansible_user: !vault "$ANSIBLE_VAULT;1.1"}}
      vars: {ansible_port: 2022}
      children:
        inner:
          hosts:
            inner-1: {ansible_user: root, ansible_ssh_common_args: '-o ProxyCommand="ssh -W %h:%p -q -p 2200 b@203.0.113.7"'}
"""
_LISTING = {
    "_meta": {"hostvars": {"a": {"ansible_host": "10.2.2.2", "litefleet_model": "cls"}, "lone": {}}},
    "web": {"hosts": ["a", "b"], "vars": {"ansible_user": "x"}},
    "short": ["b"],
    "top": {"children": ["web"]},
}
_SSH = """\
Include more/*.conf
Host gate
  HostName gate.example.com
  User jump
  Port=2200
Host cam-* !cam-x
  User edge
  User second
  ProxyJump gate
  IdentityFile "~/.ssh/the fleet"
Host cam-a cam-b
  HostName %h.lan
  LocalForward 8080 localhost:80
Host chain
  ProxyJump one,two
Match exec "true"
  User nobody
"""


def _read(folder: Path, name: str, text: str, kind: str) -> Inventory:
    path = folder / name
    path.write_text(text)
    return load(path, kind)


def test_ansible_ini_with_group_vars(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "cams.yml").write_text("litefleet_model: cls\nlitefleet_tags: [lobby, hall]\n")
    (tmp_path / "host_vars" / "cam-09").mkdir(parents=True)
    (tmp_path / "host_vars" / "cam-09" / "main.yml").write_text("litefleet_root: /opt/litefleet\n")
    (tmp_path / "host_vars" / "gw.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n3132\n")
    found = _read(tmp_path, "hosts", _INI, "ansible")
    assert [d.name for d in found.devices] == [
        "gw",
        *(f"cam-0{n}.hall.example" for n in (1, 2, 3)),
        "cam-09",
    ]
    gw, first, last = found.by_name["gw"], found.by_name["cam-01.hall.example"], found.by_name["cam-09"]
    assert (gw.host, gw.user, gw.key, gw.groups) == ("gw.example.com", "everybody", "~/.ssh/fleet", ())
    assert (first.host, first.port, first.user, first.model) == ("cam-01.hall.example", 2222, "edge", "cls")
    assert (set(first.groups), first.tags, first.python) == ({"cams", "site"}, ("lobby", "hall"), "")
    assert (last.host, last.port, last.user, last.root) == ("10.0.0.9", 2022, "own", "/opt/litefleet")
    assert last.jump == "edge@gw.example.com:2200"
    assert found.notes == (
        "host_vars/gw.yml: encrypted by ansible-vault",
        "ansible_shell_executable (5 times)",
        "local left out: ansible_connection is local, not ssh",
    )


def test_ansible_yaml(tmp_path: Path) -> None:
    found = _read(tmp_path, "all.yml", _YAML, "ansible")
    lonely, inner = found.by_name["lonely"], found.by_name["inner-1"]
    assert (lonely.host, lonely.user, lonely.port) == ("192.0.2.4", "", 22)
    assert {d.name for d in found.devices} == {"lonely", "dock-1", "dock-2", "secret", "inner-1"}
    assert (inner.user, inner.port, inner.jump) == ("root", 2022, "b@203.0.113.7:2200")
    assert set(inner.groups) == {"dock", "inner"}
    assert found.notes == ("ansible_user: a template, which only Ansible can fill in (2 times)",)


def test_a_listing_as_a_file_and_from_a_script(tmp_path: Path) -> None:
    from_file = _read(tmp_path, "list.json", json.dumps(_LISTING), "ansible")
    script = tmp_path / "dynamic"
    script.write_text(f'#!/bin/sh\n[ "$1" = --list ] && cat {tmp_path}/list.json\n')
    script.chmod(0o755)
    assert is_script(script, guess_kind(script))
    assert load(script, "ansible").devices == from_file.devices
    assert {d.name: (d.host, d.user, d.model, set(d.groups)) for d in from_file.devices} == {
        "a": ("10.2.2.2", "x", "cls", {"web", "top"}),
        "b": ("b", "x", "", {"web", "short", "top"}),
        "lone": ("lone", "", "", set()),
    }
    script.write_text("#!/bin/sh\necho no token >&2; exit 3\n")
    with pytest.raises(InventoryError, match="ended with exit code 3: no token"):
        load(script, "ansible")
    script.write_text("#!/bin/sh\necho hello\n")
    with pytest.raises(InventoryError, match="printed no JSON"):
        load(script, "ansible")


def test_a_folder_of_files_is_one_inventory(tmp_path: Path) -> None:
    (tmp_path / "01-hosts.ini").write_text("[cams]\ncam-1\n")
    (tmp_path / "02-more.yml").write_text("cams: {vars: {ansible_user: edge}}\n")
    (tmp_path / "README.md").write_text("[not read\n")
    assert [(d.name, d.user, d.groups) for d in load(tmp_path, "ansible").devices] == [("cam-1", "edge", ("cams",))]


def test_ssh_config_as_openssh_reads_it(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.conf").write_text("Host lab\n  HostName 192.0.2.9\n  Port 2022\n")
    found = _read(tmp_path, "config", _SSH, guess_kind(tmp_path / "config"))
    lab, cam = found.by_name["lab"], found.by_name["cam-a"]
    assert (lab.host, lab.port, lab.user) == ("192.0.2.9", 2022, "")
    assert (cam.host, cam.user, cam.key) == ("cam-a.lan", "edge", "~/.ssh/the fleet")
    assert cam.jump == "jump@gate.example.com:2200"
    assert set(found.by_name) == {"lab", "cam-a", "cam-b", "chain"}
    assert found.notes == (
        'Match exec "true": its settings are left out',
        "localforward 8080 localhost:80 (2 times)",
        "ProxyJump one,two of chain: a chain; give each hop a `jump:` of its own",
        "gate left out: a jump host of others",
    )


_ODD_SSH = """\
\ufeffHost\tcam-1 # it's the first
\tHostName\t10.0.0.7 # lab
\tUser\tLAB\\edge
\tPort\t2222
\tIdentityFile %d/.ssh/%n@%h
Host cam-2
  IdentityFile none
  ProxyCommand none
Host cam-3
  IdentityFile ${FLEET}/key
  ProxyJump ssh://me@gw.example.com:2200
Host *
  ProxyJump edge
  IdentityFile ~/.ssh/other
"""


def test_odd_lines_of_an_ssh_config(tmp_path: Path) -> None:
    found = _read(tmp_path, "config", _ODD_SSH, "ssh_config")
    one, two, three = found.devices
    assert (one.host, one.port, one.user, one.key, one.jump) == (
        *("10.0.0.7", 2222, "LAB\\edge"),
        *("~/.ssh/cam-1@10.0.0.7", "edge:22"),
    )
    assert (two.key, two.jump) == ("", "")
    assert (three.key, three.jump) == ("", "me@gw.example.com:2200")
    assert found.notes == ("IdentityFile ${FLEET}/key of cam-3: not all of it can be filled in",)


def test_tables(tmp_path: Path) -> None:
    text = (
        "Name;IP Address;SSH port;Site;Owner\ncam-1;10.0.0.1;2022;hall;Bob\n;10.0.0.2;;dock;\ncam-3;10.0.0.3;99999;;\n"
    )
    found = _read(tmp_path, "list.csv", text, guess_kind(Path("list.csv")))
    assert [(d.name, d.host, d.port, d.groups) for d in found.devices] == [
        ("cam-1", "10.0.0.1", 2022, ("hall",)),
        ("10.0.0.2", "10.0.0.2", 22, ("dock",)),
        ("cam-3", "10.0.0.3", 22, ()),
    ]
    assert found.notes[0] == "the column 'Owner'"
    assert found.notes[1].startswith("line 4, ssh_port: ")


def test_netbox(tmp_path: Path) -> None:
    listed = [
        {
            "name": "cam 1",
            "primary_ip": {"address": "10.0.0.5/24"},
            "site": {"slug": "hall"},
            "role": {"slug": "camera"},
            "tags": [{"slug": "paris"}],
            "status": {"value": "active"},
            "custom_fields": {"litefleet_model": "cls", "litefleet_colour": "red", "owner": "x"},
        },
        {"name": "cam-2", "status": {"value": "offline"}, "primary_ip": {"address": "10.0.0.6/24"}},
        {"name": "cam-3", "primary_ip": None},
    ]
    found = _read(tmp_path, "netbox.json", json.dumps({"results": listed, "next": "…"}), "netbox")
    (one,) = found.devices
    assert (one.name, one.host, one.model, one.tags) == ("cam-1", "10.0.0.5", "cls", ("paris",))
    assert set(one.groups) == {"hall", "camera"}
    assert [note.split(":")[0] for note in found.notes] == [
        "the name 'cam 1', which became cam-1",
        "custom field litefleet_colour",
        "`next`",
        "cam-2 left out",
        "cam-3 left out",
    ]


_ODD_INI = """\
[cams]
cam-[01:02].lan:2222
[2001:db8::1]:2022 ansible_connection=ansible.builtin.ssh
2001:db8::2
[cams:vars]
ansible_port=2200 # as the firewall has it
ansible_user='edge' # everywhere
ansible_group_priority=10
[halls]
cam-01.lan
[halls:vars]
ansible_user=hall
ansible_python_interpreter="/usr/bin/python3"
"""


def test_odd_lines_of_an_ansible_ini(tmp_path: Path) -> None:
    found = _read(tmp_path, "hosts", _ODD_INI, "ansible")
    assert {d.name: (d.host, d.port, d.user) for d in found.devices} == {
        "cam-01.lan": ("cam-01.lan", 2222, "edge"),  # the group of the higher priority
        "cam-02.lan": ("cam-02.lan", 2222, "edge"),
        "2001-db8-1": ("2001:db8::1", 2022, "edge"),
        "2001-db8-2": ("2001:db8::2", 2200, "edge"),
    }
    assert found.by_name["cam-01.lan"].python == "/usr/bin/python3"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yml", "all:\n  children:\n    cams:\n      hosts: cam-1\n"),
        ("b.yml", "halls: {children: cams}\ncams: {hosts: [cam-1]}\n"),
        ("c.json", '{"cams": {"hosts": "cam-1"}, "_meta": {"hostvars": {}}}'),
    ],
)
def test_a_text_names_one_host_or_child_as_in_ansible(tmp_path: Path, name: str, text: str) -> None:
    found = _read(tmp_path, name, text, "ansible")
    assert [d.name for d in found.devices] == ["cam-1"]
    assert "cams" in found.devices[0].groups


def test_a_script_without_meta_is_asked_for_each_host(tmp_path: Path) -> None:
    script = tmp_path / "dynamic"
    script.write_text(
        """#!/bin/sh
        case "$1 $2" in
        "--list "*) echo '{"cams": ["cam-1", "cam-2"], "halls": {"hosts": ["cam-3"]}}';;
        "--host cam-1") echo '{"ansible_host": "10.0.0.1", "ansible_port": 2022}';;
        "--host cam-3") ;;
        *) exit 1;;
        esac
        """
    )
    script.chmod(0o755)
    found = load(script, "ansible")
    assert [(d.name, d.host, d.port) for d in found.devices] == [
        ("cam-1", "10.0.0.1", 2022),
        ("cam-2", "cam-2", 22),
        ("cam-3", "cam-3", 22),
    ]
    assert found.notes == ("the variables of a host, which the script's --host did not print",)


def test_tables_as_excel_and_netbox_export_them(tmp_path: Path) -> None:
    text = (
        '\ufeffsep=;\r\n\r\nName;Primary IP4;Address;Site;Note\r\n"cam-1";10.0.0.1/24;Main St 5;hall;"two\nlines"\r\n'
        "cam 1;;10.0.0.2;hall;x;more;cells\r\n;2001:db8::5/64;;;\r\n"
    )
    found = _read(tmp_path, "list.csv", text, "csv")
    assert [(d.name, d.host) for d in found.devices] == [
        ("cam-1", "10.0.0.1"),
        ("cam-1-2", "10.0.0.2"),
        ("2001-db8-5", "2001:db8::5"),
    ]
    assert found.notes[0] == "the column 'Note'"
    old = {"name": "cam-1", "primary_ip": {"address": "10.0.0.8/24"}, "status": {"value": "decommissioning"}}
    new = {"name": "cam-1", "primary_ip4": {"address": "10.0.0.9/24"}, "status": "active", "site": {"name": "Hall 2"}}
    for listed in ([old, new], [new, old]):
        (one,) = _read(tmp_path, "netbox.json", json.dumps(listed), "netbox").devices
        assert (one.name, one.host, one.groups) == ("cam-1", "10.0.0.9", ("Hall-2",))


@pytest.mark.parametrize("encoding", ["utf-16", "gbk", "latin-1"])
def test_a_table_in_another_encoding_says_so(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(f"name,ip,{'站点' if encoding == 'gbk' else 'café'}\ncam-1,10.0.0.1,x\n".encode(encoding))
    with pytest.raises(InventoryError, match=r"byte \d+ is not UTF-8; save the file as UTF-8"):
        convert(path, "csv")


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("ansible", "---\nplugin: netbox.netbox.nb_inventory\napi_endpoint: https://x\n", "inventory plugin netbox"),
        ("csv", "name,ip\ncam-1,10.0.0.1\ncam-2,10.0.0.2\ncam-1,10.0.0.3\n", "hosts:4: the name 'cam-1' is of another"),
        ("csv", "name,ip\n10.0.0.1,10.0.0.1\n,10.0.0.1\n", "hosts:3: the name '10.0.0.1' is of another"),
        (
            "netbox",
            '[{"name": "a", "primary_ip": "10.0.0.1/8"}, {"name": "a", "primary_ip": "10.0.0.2/8"}]',
            "name 'a' is of",
        ),
        ("ansible", "[cams]\ncam-1 ansible_user\n", "hosts:2: expected name=value after the host"),
        ("ansible", "[cams:odd]\n", "neither vars, children nor hosts"),
        ("ansible", "[cams\n", "hosts:1: expected .group., .group:vars."),
        ("ansible", "{", "cannot be read as ansible"),
        ("ansible", "---\n- a\n", "expected a mapping of groups"),
        ("ssh_config", "Host *\n  User x\n", "no host was found in it, read as ssh_config"),
        ("csv", "name\n", "no host was found"),
        ("csv", "owner,site\nBob,hall\n", "the row has neither a name"),
        ("netbox", "[1, 2]", "no host was found"),
        ("netbox", '{"detail": "Invalid token"}', "expected `results`"),
    ],
)
def test_what_is_none_is_said(tmp_path: Path, kind: str, text: str, said: str) -> None:
    path = tmp_path / "hosts"
    path.write_text(text)
    with pytest.raises(InventoryError, match=said):
        convert(path, kind)


def test_two_names_of_one_machine_are_refused_as_in_our_own_form(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="one machine, one device"):
        _read(tmp_path, "hosts", "a ansible_host=10.0.0.1\nb ansible_host=10.0.0.1\n", "ansible")
