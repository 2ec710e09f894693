"""Chinese articles: the operator's machine, and the rest."""

from __future__ import annotations

from collections.abc import Mapping

from .entry import Zh

ZH_HOST: Mapping[str, Zh] = {
    "LF701": Zh(
        "主机不合适",
        "Paddle-Lite 的转换器和 PaddlePaddle 只发布了 x86_64 Linux 版本。",
        "在 x86_64 Linux 机器上运行 litefleet，或指定现成的 .nb 文件和参考数据文件。",
        "查看系统名称和架构；转换器和 PaddlePaddle 已发布的 wheel 面向 x86_64 Linux。",
        (
            "在 x86_64 Linux 机器、虚拟机或 CI 中运行 litefleet。",
            "或使用在别处生成的内容：`models.NAME.nb: {aarch64: FILE}` 和 "
            "`models.NAME.golden: {files: [a.npz, b.npz]}`。",
        ),
    ),
    "LF702": Zh(
        "无法准备工具链",
        "无法在这里创建转换器的环境：缺少 uv、相配的 CPython，或无法访问软件包索引。",
        "安装所指的 CPython（`uv python install 3.10`），或使软件包索引可以访问。",
        "为每个配置的版本查找与其 wheel 相配的 CPython，然后查找 uv；检查时不创建任何东西。",
        (
            "安装 uv 自带的 CPython：`uv python install 3.10`。",
            "在代理之后时，请指定软件包索引：`export UV_INDEX_URL=https://...`。",
            "再次查看：`litefleet doctor`。",
        ),
    ),
    "LF703": Zh(
        "工具链尚未创建",
        "转换器的环境在首次使用时创建，需要几分钟和可访问的软件包索引。",
        "无需处理；`litefleet convert` 会创建它。",
        "缓存文件夹中还没有转换器的环境。",
        ("无需处理：`litefleet convert` 会创建它。",),
    ),
    "LF704": Zh(
        "缓存不可用",
        "缓存文件夹或存储文件夹无法写入，或放不下环境和运行库。",
        "腾出空间、改正其权限，或把 LITEFLEET_CACHE（或 `store:`）设为另一个文件夹。",
        "查看缓存文件夹和存储文件夹的权限与剩余空间；不写入任何内容。",
        (
            "查看：`df -h ~/.cache/litefleet; ls -ld ~/.cache/litefleet`。",
            "使用另一个文件夹：`export LITEFLEET_CACHE=/data/litefleet`。",
            "可以删除旧的环境：需要时会重新创建。",
        ),
    ),
    "LF705": Zh(
        "SSH 密钥不可用",
        "设备清单中指定的某个 SSH 密钥不存在、无法读取、对其他用户开放，或有口令保护而没有 SSH agent。",
        "`chmod 600 KEY`；密钥有口令时，请在运行 litefleet 之前执行 `ssh-add KEY`，并从设备清单中去掉 `key:`。",
        "打开设备清单中指定的每个密钥文件：必须存在、可读、只对您开放，且无需询问口令即可使用。",
        (
            "使其只对您开放：`chmod 600 keys/fleet`。",
            "密钥有口令时：在运行 litefleet 之前执行 `ssh-add keys/fleet`，并从设备清单中去掉 `key:`。",
            "再次查看：`litefleet doctor`。",
        ),
    ),
    "LF706": Zh(
        "没有 SSH 身份",
        "没有指定 SSH 密钥，~/.ssh 中也没有，且没有 SSH agent 应答；所有登录都会被拒绝。",
        "`ssh-keygen -t ed25519`，然后 `ssh-copy-id USER@HOST`；或启动 agent 并执行 `ssh-add`。",
        "设备清单没有指定密钥，~/.ssh 中没有常用名称的密钥，SSH_AUTH_SOCK 处也没有 SSH agent 应答。",
        (
            "生成一个：`ssh-keygen -t ed25519`。",
            "带到设备上：`ssh-copy-id USER@HOST`。",
            "或在设备清单中指定一个：`key: keys/fleet`。",
        ),
    ),
    "LF707": Zh(
        "known_hosts 文件",
        "known_hosts 文件不存在、无法读取，或含有不是主机密钥的行；不在其中的设备会被拒绝。",
        "核对指纹之后，使用 --accept-new-host-keys 运行一次，或改正该行。",
        "像 OpenSSH 那样逐行读取 known_hosts 文件。",
        (
            "显示该行：`sed -n 12p ~/.ssh/known_hosts`；删除它：`ssh-keygen -R HOST`。",
            "核对指纹之后，固定新设备的主机密钥：`litefleet probe --accept-new-host-keys`。",
        ),
    ),
    "LF708": Zh(
        "配置有误",
        "litefleet.yaml 或设备清单有误。",
        "改正所指出的各行。",
        "像各条命令那样读取 litefleet.yaml 和设备清单；每处错误都连同行号一并指出。",
        (
            "改正所指出的行。",
            "再次查看：`litefleet doctor`。",
        ),
    ),
    "LF709": Zh(
        "缺少程序",
        "这台机器上没有所需的某个程序，或它的文件夹不在 PATH 中。",
        "安装它，把它的文件夹加入 PATH（pip 的是 ~/.local/bin，或环境的 bin），或不使用那一部分。",
        "在 PATH 中查找 litefleet 各部分要调用的程序，并查看其版本。",
        (
            "安装它：ssh-keygen 用 `sudo apt-get install openssh-client` 安装。",
            "或不使用需要它的那一部分：不写 `signing:`，就没有签名。",
        ),
    ),
    "LF710": Zh(
        "依赖版本不符",
        "litefleet 自身的某个 Python 依赖包缺失，或其版本不能与之配合。",
        "把 litefleet 重新安装到单独的环境中：`python3 -m venv .venv && .venv/bin/pip install .`",
        "把已安装的各软件包的版本，与 litefleet 要求的版本比较。",
        (
            "把 litefleet 安装到单独的环境中：`python3 -m venv .venv && .venv/bin/pip install .`",
            "再次查看：`litefleet doctor`。",
        ),
    ),
    "LF900": Zh(
        "未预料的情况",
        "发生了 litefleet 没有更确切说法的情况。",
        "请阅读文字说明；如果看不出原因，请附上 `--json` 的输出报告此问题。",
        "其他条目都不能解释的一切；随后是其原话。",
        (
            "阅读文字说明；其中写明看到了什么。",
            "了解更多：`litefleet verify --limit NAME --json`。",
            "如果是某个程序的输出，请让 litefleet 解释：`litefleet doctor --log FILE`。",
        ),
    ),
}
