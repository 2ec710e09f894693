"""Chinese articles: the operator's machine, and the rest."""

from __future__ import annotations

from collections.abc import Mapping

from .zh_entry import Zh

__all__ = ["ZH_HOST"]

ZH_HOST: Mapping[str, Zh] = {
    "LF701": Zh(
        "主机不合适",
        "Paddle-Lite 的转换器和 PaddlePaddle 只发布了 x86_64 Linux 版本。",
        "在 x86_64 Linux 机器上运行 litefleet，或指定现成的 .nb 文件和参考数据文件。",
    ),
    "LF702": Zh(
        "无法准备工具链",
        "无法在这里创建转换器的环境：缺少 uv、相配的 CPython，或无法访问软件包索引。",
        "安装所指的 CPython（`uv python install 3.10`），或使软件包索引可以访问。",
    ),
    "LF703": Zh(
        "工具链尚未创建",
        "转换器的环境在首次使用时创建，需要几分钟和可访问的软件包索引。",
        "无需处理；`litefleet convert` 会创建它。",
    ),
    "LF704": Zh(
        "缓存不可用",
        "缓存文件夹或存储文件夹无法写入，或放不下环境和运行库。",
        "腾出空间、改正其权限，或把 LITEFLEET_CACHE（或 `store:`）设为另一个文件夹。",
    ),
    "LF705": Zh(
        "SSH 密钥不可用",
        "设备清单中指定的某个 SSH 密钥不存在、无法读取、对其他用户开放，或有口令保护而没有 SSH agent。",
        "`chmod 600 KEY`；密钥有口令时，请在运行 litefleet 之前执行 `ssh-add KEY`。",
    ),
    "LF706": Zh(
        "没有 SSH 身份",
        "没有指定 SSH 密钥，~/.ssh 中也没有，且没有 SSH agent 应答；所有登录都会被拒绝。",
        "`ssh-keygen -t ed25519`，然后 `ssh-copy-id USER@HOST`；或启动 agent 并执行 `ssh-add`。",
    ),
    "LF707": Zh(
        "known_hosts 文件",
        "known_hosts 文件不存在、无法读取，或含有不是主机密钥的行；不在其中的设备会被拒绝。",
        "核对指纹之后，使用 --accept-new-host-keys 运行一次，或改正该行。",
    ),
    "LF708": Zh(
        "配置有误",
        "litefleet.yaml 或设备清单有误。",
        "改正所指出的各行。",
    ),
    "LF709": Zh(
        "缺少程序",
        "这台机器上没有 litefleet 的某一部分所需的程序。",
        "安装它，或不使用那一部分。",
    ),
    "LF710": Zh(
        "依赖版本不符",
        "litefleet 自身的某个 Python 依赖包缺失，或其版本不能与之配合。",
        "把 litefleet 重新安装到单独的环境中：`python3 -m venv .venv && .venv/bin/pip install .`",
    ),
    "LF900": Zh(
        "未预料的情况",
        "发生了 litefleet 没有更确切说法的情况。",
        "请阅读文字说明；如果看不出原因，请附上 `--json` 的输出报告此问题。",
    ),
}
