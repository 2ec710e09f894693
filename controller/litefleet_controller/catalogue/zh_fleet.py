"""Chinese articles: reaching devices, releases and rollouts."""

from __future__ import annotations

from collections.abc import Mapping

from .entry import Zh

ZH_FLEET: Mapping[str, Zh] = {
    "LF501": Zh(
        "无法连接",
        "无法建立 SSH 连接。",
        "请检查设备是否开机、地址和端口是否正确，以及 sshd 是否在运行。",
        "SSH 连接被拒绝、达到 `ssh.connect_time_limit_s`，或名称无法解析。",
        (
            "手动尝试：`ssh -p PORT USER@HOST true`。",
            "端口是否开放？`nc -vz HOST 22`。",
            "位于另一台机器之后时，请在设备清单中写明：`jump: user@host:port`。",
        ),
    ),
    "LF502": Zh(
        "主机密钥未知",
        "设备的主机密钥未知，因此对方可能是别人的机器。",
        "核对其指纹，然后使用 --accept-new-host-keys 运行一次，把它固定下来。",
        "设备出示的密钥，不在 `host_key:`、`ssh.known_hosts` 和项目自己固定的密钥之中。",
        (
            "在设备本身读取指纹：`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`。",
            "如果相同，请固定它：`litefleet probe --limit NAME --accept-new-host-keys`。",
            "或写进设备清单：`host_key: ssh-ed25519 AAAA...`。",
        ),
    ),
    "LF503": Zh(
        "主机密钥已变化",
        "设备的主机密钥不是固定下来的那个：设备重装过系统，或有人从中拦截。",
        "如果重装过系统或更换过设备，请接受新密钥：`litefleet accept-key NAME`（或更正 `host_key:`）；否则请查明是谁在应答。",
        "这台设备已有一个已知的密钥，而它出示的是另一个，或已标记为吊销。",
        (
            "查明是否重装过系统。如果没有人重装，请不要登录。",
            "在设备本身比较：`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`。",
            "然后接受新密钥：`litefleet accept-key NAME` 显示新旧指纹并询问。",
        ),
    ),
    "LF504": Zh(
        "登录被拒绝",
        "设备拒绝了该用户或密钥，或在尝试过多密钥后关闭了连接。",
        "请检查设备清单中的用户和密钥，以及设备上的 ~/.ssh/authorized_keys；SSH agent 中有许多密钥时，请用 `key:` 指定一个。",
        "设备有应答，但拒绝了所有出示的密钥，或在若干个之后断开。",
        (
            "手动尝试：`ssh -i KEY -p PORT USER@HOST true`。",
            "把密钥带到设备上：`ssh-copy-id -i KEY USER@HOST`。",
            "密钥过多时：在设备清单中用 `key:` 指定正确的那个，或在 ~/.ssh/config 中用 IdentityFile 和 IdentitiesOnly。",
            "查看这台机器上的密钥：`litefleet doctor`。",
        ),
    ),
    "LF505": Zh(
        "连接中断",
        "工作完成之前连接中断。已完整到达的内容会保留；看不到写了一半的内容。",
        "再次运行同一命令：它会从已有的内容继续。",
        "在设备的回答完整之前，通道结束或写入失败。",
        (
            "再次运行同一命令：它会从已有的内容继续。",
            "若再次出现：在设备上运行 `dmesg | tail` 和 `journalctl -u ssh -n 50`。",
            "链路较弱时，请减少同时处理的设备：`rollout.parallel`、`rollout.per_jump_host`。",
        ),
    ),
    "LF506": Zh(
        "步骤超时",
        "设备在一个步骤的中途停止应答。",
        "请检查其负载和网络；如果只是较慢，请提高 ssh.step_time_limit_s。",
        "连接仍在，但在 `ssh.step_time_limit_s` 之内没有收到任何内容。",
        (
            "查看其负载：`ssh USER@HOST uptime`。",
            "如果只是较慢，请在 litefleet.yaml 中提高 `ssh.step_time_limit_s`。",
            "损坏的 SD 卡会使一切变慢：`dmesg | grep -i mmc`。",
        ),
    ),
    "LF507": Zh(
        "违反协议",
        "设备的回答不符合 litefleet 的协议：在该端口应答的是别的程序，或有程序向会话中打印内容。",
        "请手动登录，在其 shell 启动文件中查找向标准输出写内容的程序。",
        "回答中的每个帧都有固定的形式、有限的大小和已知的字段；这一个没有。",
        (
            "不用终端登录，看打印了什么：`ssh USER@HOST true | od -c | head`；必须什么都不打印。",
            "把 ~/.bashrc 中的 `echo`、`neofetch` 之类移到 `[ -t 1 ] || return` 之后。",
            "确认该端口是这台设备的 sshd 的端口。",
        ),
    ),
    "LF508": Zh(
        "设备正忙",
        "另一个控制端正在处理这台设备。",
        "等它完成后再运行。",
        "设备上 agent 的锁由另一个会话持有。",
        (
            "查看从这里正在进行什么：`litefleet status`。",
            "等它完成，再运行同一命令；部署会自行重试。",
        ),
    ),
    "LF509": Zh(
        "被中断",
        "这台设备完成之前，运行被中断。",
        "再次运行同一命令。",
        "在这台设备完成之前，收到了 Ctrl-C 或 SIGTERM，或控制端结束。",
        (
            "继续：`litefleet resume`，或再次运行同一命令。",
            "查看还有什么没有完成：`litefleet status`。",
        ),
    ),
    "LF510": Zh(
        "登录无法使用",
        "这个登录不执行启动代理的命令：它的 shell 不接受命令（nologin、菜单、受限 shell），没有 sh，或某个启动文件结束 shell、读取其输入或启动别的程序。",
        "请看上面设备自己的话。给该用户一个 POSIX shell（`chsh -s /bin/sh USER`），或让 ~/.bashrc 以 `[ -t 1 ] || return` 开头。",
        "在 `sh` 开始之前会话就结束了，或有别的程序应答；会引用设备的输出和 shell 的退出码。",
        (
            "手动尝试：`ssh -p PORT USER@HOST 'sh -c true'; echo $?` 应只打印 0。",
            "查看登录 shell：在设备上运行 `getent passwd USER`；更改：`chsh -s /bin/sh USER`。",
            "让 ~/.bashrc（或 ~/.cshrc、config.fish）在没有终端时立即结束：开头写 `[ -t 1 ] || return`。",
            "查找 sshd_config 中的 `ForceCommand` 和 ~/.ssh/authorized_keys 中的 `command=`。",
        ),
    ),
    "LF511": Zh(
        "没有共同的 SSH 算法",
        "设备的 SSH 服务器与 litefleet 没有共同的算法。约 2016 年以前的服务器只用 SHA-1 签名，这已不再安全。",
        "请更新 SSH 服务器；做不到时，在设备清单中为这台设备写 `legacy: true`，只在那里允许 SHA-1 和 CBC。",
        "SSH 握手结束，因为服务器的某个算法列表中没有 litefleet 提供的条目。",
        (
            "查看服务器提供什么：`ssh -vv -p PORT USER@HOST true 2>&1 | grep -A12 'peer server KEXINIT'`。",
            "更新设备的 SSH 服务器（OpenSSH 7.2、dropbear 2020.79 或更新）。",
            "否则只为这台设备允许 SHA-1 和 CBC：在设备清单中写 `legacy: true`。",
        ),
    ),
    "LF512": Zh(
        "通往设备的路被拒绝",
        "跳板机，或 SSH 配置中的 ProxyCommand，拒绝打开通往设备的路。",
        "在跳板机的 sshd_config 中设置 `AllowTcpForwarding yes`（以及 `PermitOpen any`）；手动运行 ProxyCommand 来检查它。",
        "已连上跳板机，但它拒绝转发；或 ProxyCommand 无法启动。",
        (
            "手动尝试：`ssh -J USER@JUMPHOST USER@HOST true`。",
            "在跳板机上：`sshd -T | grep -i -e allowtcpforwarding -e permitopen`。",
            "ProxyCommand：手动运行它，应打印以 `SSH-2.0-` 开头的一行。",
        ),
    ),
    "LF513": Zh(
        "相同的主机密钥",
        "不同名称的设备出示同一个 SSH 主机密钥：设备清单把一台机器写了两次，或机器是从同一个镜像克隆的。",
        "从设备清单中删除第二个名称；克隆的机器请生成新密钥：`rm /etc/ssh/ssh_host_*; ssh-keygen -A`。",
        "一次运行中有两台设备证明自己持有同一个 SSH 主机密钥。",
        (
            "比较：在两台上运行 `ssh USER@HOST cat /etc/machine-id /proc/sys/kernel/random/boot_id`。",
            "同一台机器：从设备清单中删除其中一个名称。",
            "克隆：在其中一台上运行 `rm /etc/ssh/ssh_host_*; ssh-keygen -A`，重启 sshd，并固定新密钥。",
        ),
    ),
    "LF514": Zh(
        "登录的限制",
        "登录的某个限制（`ulimit`、limits.conf、服务管理器）禁止代理必须做的事：文件大小、打开的文件、进程或内存。",
        "请放宽文中指出的限制：在用户的启动文件、/etc/security/limits.conf 或 sshd 的 unit 中。",
        "内核以只有登录限制才会引起的错误拒绝了文件、进程或描述符；限制的值由进程自己读取。",
        (
            "查看登录的限制：`ssh USER@HOST 'ulimit -a'`。",
            "在 ~/.bashrc、~/.profile、/etc/profile 和 /etc/security/limits.conf 中查找 `ulimit`。",
            "sshd 自己的限制：`systemctl show ssh | grep ^Limit`。",
        ),
    ),
    "LF601": Zh(
        "发布已偏离",
        "设备运行的不是已确认的发布：有人改动了链接，或其存储被恢复到从前的状态。",
        "`litefleet reconcile --repair` 会恢复已确认的发布；`litefleet audit` 显示谁从这里改动了什么。",
        "每次联系时，都把 models/NAME/current 下的链接与已确认的发布比较。",
        (
            "查看有何不同：`litefleet reconcile --limit NAME`。",
            "恢复已确认的发布：`litefleet reconcile --repair --limit NAME`。",
            "谁从这里改动了什么：`litefleet audit`。",
        ),
    ),
    "LF602": Zh(
        "文件已偏离",
        "设备上的模型文件或参考数据文件，其字节已不是确认时的字节：闪存损坏、磁盘已满，或有人改动。",
        "`litefleet reconcile --repair` 会重新发送；若再次出现，请怀疑存储有问题。",
        "查找已确认的发布的文件；使用 `--deep` 时，对每个字节重新计算哈希。",
        (
            "读取每个字节：`litefleet reconcile --deep --limit NAME`。",
            "重新发送有误的内容：`litefleet reconcile --repair --limit NAME`。",
            "若再次出现，请怀疑存储有问题：`dmesg | grep -iE 'mmc|ext4|i/o error'`。",
        ),
    ),
    "LF603": Zh(
        "运行库已偏离",
        "解开的 Paddle-Lite 运行库中，有文件在解开之后丢失或被改动。",
        "`litefleet reconcile --repair` 会重新解开它。",
        "把解开的运行库的文件与解开时写下的清单比较；使用 `--deep` 时比较其字节。",
        (
            "读取每个字节：`litefleet reconcile --deep --limit NAME`。",
            "重新解开：`litefleet reconcile --repair --limit NAME`。",
        ),
    ),
    "LF604": Zh(
        "环境已变化",
        "自发布在此设备上得到证明以来，Python、某个库、CPU 特性或系统自带的 Paddle-Lite 有了变化，因此该证明不再有效。",
        "`litefleet reconcile --repair`（或 `litefleet verify`）会重新证明。",
        "把环境的指纹（Python、libc、各个库、CPU 特性、系统自带的 Paddle-Lite）与证明时的比较。",
        (
            "查看设备现在的情况：`litefleet probe --limit NAME`。",
            "重新证明：`litefleet reconcile --repair --limit NAME`，或 `litefleet verify --limit NAME`。",
        ),
    ),
    "LF605": Zh(
        "租约到期",
        "发布已经启用，但没有及时得到确认，或在得到确认之前设备重新启动，因此设备退回到之前运行的内容。",
        "运行 `litefleet retry --failed`；若再次发生，请提高 rollout.lease，或检查网络，以及是什么使设备重新启动。",
        "切换在租约（`rollout.lease`）之下进行；租约到期或设备重新启动时，agent 会自行撤销。",
        (
            "再试一次：`litefleet retry --failed`。",
            "查看为何退回：`litefleet status`，以及在设备上运行 `last -x reboot | head`。",
            "链路较慢时，请提高 `rollout.lease`。",
        ),
    ),
    "LF606": Zh(
        "发布过旧",
        "发布的编号小于这台设备已经接受的编号：这是重新发来的旧发布。",
        "重新部署，或重新写出离线包（每次都会得到更大的编号）。若确实要退回，请用 `litefleet rollback`。",
        "每个加封的发布都有一个只增不减的编号；设备为每个模型记住已接受的最大编号。",
        (
            "若确实要恢复旧文件：`litefleet rollback --to previous --limit NAME`。",
            "否则请重新部署（`litefleet rollout`），或重新写出离线包（`litefleet bundle`）。",
        ),
    ),
    "LF607": Zh(
        "发布已过期",
        "发布的封印已过期，或其签发时间远超前于设备的时钟：控制端或设备的时钟有误。",
        "重新部署，或重新写出离线包，这样会重新加封；并检查两边的时钟。曾接受错误时间的设备，用 `litefleet trust --reset-time` 恢复。",
        "把封印的期限与设备的时钟，或与它见过的最晚时间比较。",
        (
            "查看其时钟：`ssh USER@HOST date`。",
            "重新加封：`litefleet rollout`，或 `litefleet bundle`。",
            "离线包在路上时间较长时，请提高 `signing.expires_after`。",
        ),
    ),
    "LF608": Zh(
        "其他设备群的发布",
        "发布是为另一个设备群加封的，或封印属于另一个发布。",
        "请检查 litefleet.yaml 中的 `fleet:`。设备确实要移到另一个设备群时，请手动删除其 trust/accepted.json。",
        "封印写明了其设备群、模型和发布；设备记住它接受的第一个封印的设备群。",
        (
            "检查 litefleet.yaml 中的 `fleet:`，以及项目是否正确。",
            "设备确实要移走时：手动删除 agent 根文件夹下的 trust/accepted.json，然后 `litefleet rollout`。",
        ),
    ),
    "LF609": Zh(
        "发布没有签名",
        "这台设备只信任特定的签名者，而这个发布没有签名。",
        "在 litefleet.yaml 的 `signing:` 下写明签名密钥和可信签名者名单，然后重新部署。",
        "设备有可信签名者名单，而送来的内容没有签名。",
        (
            "在 litefleet.yaml 中写明密钥和名单：`signing: {key: keys/release, allowed_signers: allowed_signers}`。",
            "重新部署：`litefleet rollout`。",
        ),
    ),
    "LF610": Zh(
        "签名无效",
        "签名不是针对这些字节的，或者所用的密钥不在可信签名者之中，或者签名未能检查。",
        "请用设备信任的密钥签名；要更换可信的密钥，请用其中一把为新名单签名（`litefleet trust`）。",
        "设备用自己的 ssh-keygen，对照其可信签名者名单检查签名；控制端在此之前已检查过。",
        (
            "查看信任谁：`cat allowed_signers`；查看您的密钥：`ssh-keygen -lf keys/release.pub`。",
            "要更换设备上的名单，请用设备信任的密钥为其签名：`litefleet trust`。",
        ),
    ),
    "LF611": Zh(
        "设备没有检查签名",
        "设备没有 ssh-keygen（8.2 或更高版本），因此无法自行检查签名；控制端已经检查过，编号、设备群和期限也已检查。",
        "如果要让设备自行检查，请在设备上安装 OpenSSH 客户端工具。",
        "设备上没有 ssh-keygen，或其版本低于 8.2；签名功能自 8.2 起才有。",
        (
            "安装它：`sudo apt-get install openssh-client`。",
            "查看其版本：`ssh -V`。",
        ),
    ),
    "LF612": Zh(
        "超出配额",
        "可以删除的都删除之后，加上这个发布，仍会超出这台设备上 litefleet 文件夹的配额。",
        "提高 rollout.keep.quota_mb，取消固定某些发布，或减少保留的数量（rollout.keep.releases）。",
        "可以删除的都删除之后，把文件夹现有的内容与将要到来的相加，再与 `rollout.keep.quota_mb` 比较。",
        (
            "提高 `rollout.keep.quota_mb`。",
            "或少保留一些：调低 `rollout.keep.releases`，缩短 `rollout.keep.pinned`。",
        ),
    ),
    "LF613": Zh(
        "发布没有保留",
        "所要求的发布不在（或已不在）这台设备上，或从未在这里得到证明。",
        "`litefleet rollback --to previous`（或 `nothing`）会退回到之前运行的内容；其他发布请重新部署。",
        "在设备上查找所要求的发布，连同其文件和证明。",
        (
            "退回到之前运行的内容：`litefleet rollback --to previous --limit NAME`。",
            "其他发布需重新部署：`litefleet rollout --limit NAME`。",
            "要多保留一些：提高 `rollout.keep.releases`。",
        ),
    ),
    "LF614": Zh(
        "设备已自行退回",
        "自上次联系以来，设备自行撤销了一次切换：租约到期，或在切换得到确认之前重新启动。",
        "如果原因是断电，则无需处理；否则请查明是什么使设备重新启动。",
        "agent 会记下它撤销的每次切换；控制端在下一次联系时读取。",
        (
            "查看是否重新启动过：在设备上运行 `last -x reboot | head`。",
            "再次启用该发布：`litefleet retry --failed`。",
        ),
    ),
    "LF615": Zh(
        "已放弃",
        "设备一直无法连接，时间已达到 rollout.retry.give_up_after 允许的上限。",
        "使设备恢复，然后运行 `litefleet retry --failed`。",
        "部署会反复尝试离线设备，直到 `rollout.retry.give_up_after`。",
        (
            "使其恢复，然后：`litefleet retry --failed`。",
            "如果它不会再回来，请从设备清单中删除。",
        ),
    ),
    "LF616": Zh(
        "与计划不符",
        "部署做计划时所依据的内容（设备清单中该设备的条目、发布的文件、源模型、版本）已经不在或有了变化。",
        "按现有的内容重新部署（`litefleet rollout --supersede`），或把计划时的文件放回去。",
        "部署保存了做计划时所依据内容的哈希；处理每台设备之前，与现有的内容比较。",
        (
            "查看部署的内容和状况：`litefleet status`。",
            "按现有的内容重新做计划：`litefleet rollout --supersede`。",
            "或把计划时的文件放回去，然后继续：`litefleet resume`。",
        ),
    ),
    "LF617": Zh(
        "离线包已损坏",
        "离线包文件不完整，或其中某一部分的哈希与已签名的索引所写的不同。",
        "重新复制，或用 `litefleet bundle` 重新写出。",
        "离线包中已签名的索引写明了每一部分的 SHA-256；解开任何内容之前，先计算各部分的哈希。",
        (
            "比较：在本机和存储棒上分别运行 `sha256sum fleet.bundle`。",
            "重新写出：`litefleet bundle --out fleet.bundle`，拔出存储棒之前先卸载它。",
        ),
    ),
    "LF618": Zh(
        "设备时钟不准",
        "设备的时钟早于该设备上已经发生过的事，或被拨动了一天以上。没有电池的设备启动时处于过去的时间，直到向时间服务器校准。",
        "使设备上的时间服务正常工作（`timedatectl`）；在此之前，其历史中的时间和发布的有效期都不可靠。",
        "服务把时钟与设备上最近一次接受或验证发布的时间、以及启动以来的时间相比较。",
        (
            "在设备上查看时钟和时间服务：`timedatectl status`。",
            "然后再查看一次：`litefleet status`。",
        ),
    ),
    "LF619": Zh(
        "没有当前发布",
        "设备上没有启用该模型的任何发布，或所要求的发布不在设备上。",
        "请先部署：`litefleet rollout`；`litefleet status` 显示每台设备运行的内容。",
        "`litefleet infer` 和 `bench` 向设备请求一个模型，而其存储中没有该模型的当前发布。",
        (
            "查看设备运行的内容：`litefleet status`。",
            "部署该模型：`litefleet rollout -m MODEL --limit NAME`。",
        ),
    ),
    "LF620": Zh(
        "服务繁忙",
        "服务的队列已满，或连接的调用方太多：调用方的请求超出了这台设备的能力。",
        "请稍后再试；在 service.json 中调大 `workers`、`queue` 或 `connections`，或让调用方减少请求。",
        "服务以 `busy` 应答请求，尚未运行其任何部分。",
        (
            "在设备上查看队列长度：`litefleet-agent status`。",
            "测量设备的能力：`litefleet bench --limit NAME --workers 1,2`。",
        ),
    ),
    "LF621": Zh(
        "设置被拒绝",
        "设备上的设置文件（代理根目录下的 service.json）含有未知的或超出范围的设置。",
        "改正消息所指的设置（docs/service.zh.md），然后重复该命令。",
        "代理在启动工作进程之前读取其根目录下的 service.json，并拒绝它不认识的内容。",
        (
            "在设备上改正该文件：各设置及其范围见 docs/service.zh.md。",
            "重复该命令；运行中的服务在启动时读取该文件。",
        ),
    ),
    "LF630": Zh(
        "由另一个状态库管理",
        "设备上一次是由另一个控制端的状态库，或本状态库较新的副本切换的：本状态库是从备份恢复的、是新的，或者另有一个控制端在同时工作。设备上没有任何改动。",
        "请使用那个状态库，或运行 `litefleet state adopt`：设备正在运行的发布将成为这里已确认的发布。",
        "设备随上一次切换保存机群、发出切换的状态库 id 及其编号。`plan`、`rollout`、`reconcile`、`rollback` 和 `resume` 在改动任何内容之前，"
        "把它们与当前的状态库比较。",
        (
            "显示当前的状态库：`litefleet state show`。",
            "如果存在较新的副本（另一台机器、较新的备份），请换上它，再运行原来的命令。",
            "否则查看将会采纳什么：`litefleet state adopt --dry-run`；然后去掉 `--dry-run` 再运行。",
            "明知如此仍要发布：`litefleet rollout --take-over`。",
        ),
    ),
    "LF631": Zh(
        "运行着失败的发布",
        "设备运行的发布，在它的发布过程中被算作失败：设备切换之后无法检查，或没有通过检查。",
        "`litefleet retry --failed` 再次检查设备；`litefleet rollback --rollout ID` 把它退回。",
        "`litefleet reconcile` 在设备上发现最近一次发布过程的发布，而该过程把这台设备算作失败。",
        (
            "显示它为什么算作失败：`litefleet status ID`。",
            "再次检查设备：`litefleet retry --failed ID`。",
            "或把它退回：`litefleet rollback --rollout ID --limit NAME`。",
        ),
    ),
}
