/* A command that its client has taken over. It says its pid, the address of its secret and whether it may be traced; then, for each line
   "PID ADDRESS" that it is sent, what it can do to that process, and for "SIGNAL PID" it sends that signal. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char secret[16] = "a secret";

static void said(const char *what, long result) {
    printf("%s %s\n", what, result >= 0 ? "works" : errno == EPERM ? "EPERM" : errno == EACCES ? "EACCES" : strerror(errno));
}

static void open_of(int pid, const char *name, int flags) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    int fd = open(path, flags);
    said(name, fd);
    if (fd >= 0)
        close(fd);
}

static void attack(int pid, uintptr_t address) {
    char buffer[64];
    said("kill", kill(pid, 0));
    said("tgkill", syscall(SYS_tgkill, pid, pid, 0));
    long traced = ptrace(PTRACE_ATTACH, pid, 0, 0);
    said("ptrace", traced);
    if (traced == 0) {
        waitpid(pid, 0, __WALL);
        ptrace(PTRACE_DETACH, pid, 0, 0);
    }
    struct iovec here = {buffer, 8}, there = {(void *)address, 8};
    said("process_vm_readv", process_vm_readv(pid, &here, 1, &there, 1, 0));
    open_of(pid, "mem", O_RDWR);
    open_of(pid, "environ", O_RDONLY);
    open_of(pid, "maps", O_RDONLY);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/0", pid);
    said("fd", readlink(path, buffer, sizeof buffer));
    int pidfd = syscall(SYS_pidfd_open, pid, 0);
    said("pidfd_send_signal", syscall(SYS_pidfd_send_signal, pidfd, 0, 0, 0));
    int stolen = syscall(SYS_pidfd_getfd, pidfd, 0, 0);
    said("pidfd_getfd", stolen);
    if (stolen >= 0)
        close(stolen);
    close(pidfd);
    struct rlimit no_core = {0, 0};
    said("prlimit", prlimit(pid, RLIMIT_CORE, &no_core, 0));
}

int main(int argc, char **argv) {
    char line[64], word[16];
    int pid, signal;
    unsigned long address;
    (void)argc, (void)argv;
    setvbuf(stdout, 0, _IOLBF, 0);
    printf("%d %lu %d\n", getpid(), (unsigned long)(uintptr_t)secret, prctl(PR_GET_DUMPABLE));
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "attack %d %lu", &pid, &address) == 2) {
            attack(pid, address);
            puts("done");
        } else if (sscanf(line, "signal %d %d", &signal, &pid) == 2) {
            said("signal", kill(pid, signal));
        } else if (sscanf(line, "abstract %15s", word) == 1) {
            struct sockaddr_un at = {AF_UNIX, {0}};
            memcpy(at.sun_path + 1, word, strlen(word));
            int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
            said("abstract", connect(fd, (struct sockaddr *)&at, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(word)));
            close(fd);
        } else if (strncmp(line, "own", 3) == 0) {
            /* its own child: signalled, traced, reaped as ever */
            int child = fork(), status = 0;
            if (child == 0)
                for (;;)
                    pause();
            struct iovec here = {word, 8}, there = {secret, 8};
            struct rlimit no_core = {0, 0};
            said("own_limit", setrlimit(RLIMIT_CORE, &no_core));
            said("own_read", process_vm_readv(child, &here, 1, &there, 1, 0));
            said("own_kill", kill(child, SIGTERM));
            waitpid(child, &status, 0);
            printf("own_end %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : -1);
        } else if (sscanf(line, "exit %d", &pid) == 1) {
            return pid;
        }
    }
    return 0;
}
