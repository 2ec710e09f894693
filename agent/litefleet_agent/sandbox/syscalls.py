"""Numbers of the system calls that a confined process may not make, or only with some arguments.

Columns: name, x86_64, aarch64, armv7 (EABI); "-" = missing there.

Numbers: Linux 6.1's UAPI headers as Debian packs them (linux-libc-dev 6.1.187 for amd64: asm/unistd_64.h;
linux-libc-dev-arm64-cross and -armhf-cross 6.1.4: asm-generic/unistd.h, asm/unistd-eabi.h); from 451 on scripts/syscall.tbl of
Linux 6.11, whose numbers all machines share.
"""

from typing import Dict, Iterator

LAST_KNOWN = 462  # mseal.  Newer calls are answered with ENOSYS

# Other programs
_PROGRAMS = """
execve 59 221 11
execveat 322 281 387
"""
# New processes: threads are made by clone, which is examined
_PROCESSES = """
fork 57 - 2
vfork 58 - 190
setpgid 109 154 57
setsid 112 157 66
"""
# Other processes
_OTHER_PROCESSES = """
ptrace 101 117 26
process_vm_readv 310 270 376
process_vm_writev 311 271 377
process_madvise 440 440 440
process_mrelease 448 448 448
kcmp 312 272 378
pidfd_open 434 434 434
pidfd_getfd 438 438 438
pidfd_send_signal 424 424 424
migrate_pages 256 238 400
move_pages 279 239 344
ioprio_set 251 30 314
"""
# The network, and every socket that was not inherited
_SOCKETS = """
socket 41 198 281
socketpair 53 199 288
connect 42 203 283
bind 49 200 282
listen 50 201 284
accept 43 202 285
accept4 288 242 366
setsockopt 54 208 294
"""
# Mounts, roots and namespaces
_MOUNTS_AND_NAMESPACES = """
mount 165 40 21
umount2 166 39 52
pivot_root 155 41 218
chroot 161 51 61
move_mount 429 429 429
open_tree 428 428 428
fsopen 430 430 430
fsconfig 431 431 431
fsmount 432 432 432
fspick 433 433 433
mount_setattr 442 442 442
statmount 457 457 457
listmount 458 458 458
unshare 272 97 337
setns 308 268 375
"""
# Parts of the kernel that inference does not use and exploits often do
_KERNEL_PARTS = """
bpf 321 280 386
perf_event_open 298 241 364
userfaultfd 323 282 388
io_uring_setup 425 425 425
io_uring_enter 426 426 426
io_uring_register 427 427 427
io_setup 206 0 243
io_submit 209 2 246
add_key 248 217 309
request_key 249 218 310
keyctl 250 219 311
fanotify_init 300 262 367
fanotify_mark 301 263 368
open_by_handle_at 304 265 371
name_to_handle_at 303 264 370
seccomp 317 277 383
landlock_create_ruleset 444 444 444
landlock_add_rule 445 445 445
landlock_restrict_self 446 446 446
lsm_set_self_attr 460 460 460
vmsplice 278 75 343
splice 275 76 340
tee 276 77 342
lookup_dcookie 212 18 249
remap_file_pages 216 234 253
modify_ldt 154 - -
uselib 134 - 86
"""
# Memory that RLIMIT_DATA does not count, and queues that outlive the process
_UNCOUNTED_MEMORY = """
memfd_create 319 279 385
memfd_secret 447 447 -
shmget 29 194 307
shmat 30 196 305
shmctl 31 195 308
semget 64 190 299
semop 65 193 298
semtimedop 220 192 312
semtimedop_time64 - - 420
semctl 66 191 300
msgget 68 186 303
msgsnd 69 189 301
msgrcv 70 188 302
msgctl 71 187 304
mq_open 240 180 274
mq_unlink 241 181 275
"""
# The system's own state
_SYSTEM_STATE = """
init_module 175 105 128
finit_module 313 273 379
delete_module 176 106 129
kexec_load 246 104 347
kexec_file_load 320 294 401
reboot 169 142 88
swapon 167 224 87
swapoff 168 225 115
acct 163 89 51
quotactl 179 60 131
quotactl_fd 443 443 443
nfsservctl 180 42 169
vhangup 153 58 111
syslog 103 116 103
sethostname 170 161 74
setdomainname 171 162 121
settimeofday 164 170 79
clock_settime 227 112 262
clock_settime64 - - 404
clock_adjtime 305 266 372
clock_adjtime64 - - 405
adjtimex 159 171 124
ioperm 173 - -
iopl 172 - -
pciconfig_iobase - - 271
pciconfig_read - - 272
pciconfig_write - - 273
_sysctl 156 - 149
bdflush - - 134
sysfs 139 - 135
ustat 136 - 62
"""
# Other users
_OTHER_USERS = """
setuid 105 146 23
setuid32 - - 213
setgid 106 144 46
setgid32 - - 214
setreuid 113 145 70
setreuid32 - - 203
setregid 114 143 71
setregid32 - - 204
setresuid 117 147 164
setresuid32 - - 208
setresgid 119 149 170
setresgid32 - - 210
setfsuid 122 151 138
setfsuid32 - - 215
setfsgid 123 152 139
setfsgid32 - - 216
setgroups 116 159 81
setgroups32 - - 206
capset 126 91 185
"""
# Owners, modes, times and attributes of files: Landlock does not cover them
_FILE_ATTRIBUTES = """
chmod 90 - 15
fchmod 91 52 94
fchmodat 268 53 333
fchmodat2 452 452 452
chown 92 - 182
chown32 - - 212
fchown 93 55 95
fchown32 - - 207
lchown 94 - 16
lchown32 - - 198
fchownat 260 54 325
utime 132 - -
utimes 235 - 269
utimensat 280 88 348
utimensat_time64 - - 412
futimesat 261 - 326
setxattr 188 5 226
lsetxattr 189 6 227
fsetxattr 190 7 228
removexattr 197 14 235
lremovexattr 198 15 236
fremovexattr 199 16 237
"""
# Truncation by path: Landlock covers it from ABI 3 on
_TRUNCATION = """
truncate 76 45 92
truncate64 - - 193
"""
# Links and pipes, which would mislead or block the parent when it reads the work folder
_LINKS_AND_PIPES = """
link 86 - 9
linkat 265 37 330
symlink 88 - 83
symlinkat 266 36 331
mknod 133 - 14
mknodat 259 33 324
"""

# Refused with EPERM.
DENIED = (
    _PROGRAMS
    + _PROCESSES
    + _OTHER_PROCESSES
    + _SOCKETS
    + _MOUNTS_AND_NAMESPACES
    + _KERNEL_PARTS
    + _UNCOUNTED_MEMORY
    + _SYSTEM_STATE
    + _OTHER_USERS
    + _FILE_ATTRIBUTES
    + _TRUNCATION
    + _LINKS_AND_PIPES
)

# Answered with ENOSYS.  The C library then uses the older call, whose flags a filter can read.
ABSENT = """
clone3 435 435 435
openat2 437 437 437
"""

# Answered with EOPNOTSUPP, as some file systems do: FALLOC_FL_KEEP_SIZE bypasses RLIMIT_FSIZE.
UNSUPPORTED = """
fallocate 285 47 352
"""

# Refused with EACCES where no file may be written.
FOLDER_CHANGES = """
creat 85 - 8
mkdir 83 - 39
mkdirat 258 34 323
rmdir 84 - 40
rename 82 - 38
renameat 264 38 329
renameat2 316 276 382
unlink 87 - 10
unlinkat 263 35 328
"""

# Decided by an argument: see seccomp.py.
EXAMINED = """
clone 56 220 120
prctl 157 167 172
ioctl 16 29 54
fcntl 72 25 55
fcntl64 - - 221
open 2 - 5
openat 257 56 322
mmap 9 222 -
mmap2 - - 192
kill 62 129 37
tkill 200 130 238
tgkill 234 131 268
rt_sigqueueinfo 129 138 178
rt_tgsigqueueinfo 297 240 363
prlimit64 302 261 369
setpriority 141 140 97
sched_setscheduler 144 119 156
sched_setparam 142 118 154
sched_setattr 314 274 380
personality 135 92 136
"""

_CALLED = """
capget 125 90 184
capset 126 91 185
seccomp 317 277 383
"""


def numbers(table: str, column: int) -> Dict[str, int]:
    """Return the numbers of a table's calls for one machine, by name."""
    cells = table.split()
    return {name: int(cell) for name, cell in zip(cells[::4], cells[1 + column :: 4]) if cell != "-"}  # noqa: B905 - 3.7


def values(table: str, column: int) -> Iterator[int]:
    """Return the numbers alone."""
    return map(int, set(table.split()[1 + column :: 4]) - {"-"})


def called(column: int) -> Dict[str, int]:
    """Return the numbers of the calls that confining itself makes."""
    return numbers(_CALLED, column)
