#!/usr/bin/python3
"""A systemctl for machines without systemd: enough of one to start, stop and show the units of a test.

It reads the unit and its drop-ins below /run and /etc, puts a service into a control group of its name, and tells a unit of
Type=notify that it is ready when it says so. What it was asked is in /tmp/systemctl.log."""
import glob, os, shlex, signal, socket, subprocess, sys, time

STATE = "/tmp/systemctl"


def lines(unit):
    files = [f for d in ("/run", "/etc") for f in glob.glob(f"{d}/systemd/system/{unit}")]
    files += sorted(glob.glob(f"/run/systemd/system/{unit}.d/*.conf"), key=os.path.basename)
    return [line.strip() for file in files for line in open(file)]


def value(unit, key):
    return ([line.split("=", 1)[1] for line in lines(unit) if line.startswith(key + "=")] or [""])[-1]


def pid(unit):
    try:
        number = int(open(f"{STATE}/{unit}.pid").read())
        return number if open(f"/proc/{number}/stat").read().split()[2] != "Z" else None
    except (OSError, ValueError):
        return None


def group(unit):
    root = next(line.split()[1] for line in open("/proc/self/mounts") if line.split()[2] == "cgroup2")
    return f"{root}/{unit}"


def start(unit):
    if pid(unit):
        return
    words = shlex.split(value(unit, "ExecStart"))
    if not words:
        sys.exit(f"Failed to start {unit}: Unit {unit} not found.")
    if user := value(unit, "User"):
        caps = "+chown,+dac_override,+dac_read_search,+fowner"
        rights = ["--inh-caps", caps, "--ambient-caps", caps] if value(unit, "AmbientCapabilities") == "~" else []
        words = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", *rights, *words]
    heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.settimeout(60)
    notifies = value(unit, "Type") == "notify"
    address = f"{STATE}/{unit}.notify"
    if notifies:
        if os.path.exists(address):
            os.unlink(address)
        heard.bind(address)
    if os.fork() == 0:
        # The unit's keeper: what is to run afterwards runs however it ends.
        os.setsid()
        heard.close()
        said = open(f"{STATE}/{unit}.log", "a")
        null = open("/dev/null")
        for stream in (0, 1, 2):
            os.dup2(null.fileno() if stream == 0 else said.fileno(), stream)
        def enter():
            if not notifies:
                os.makedirs(group(unit), exist_ok=True)
                open(f"{group(unit)}/cgroup.procs", "w").write(str(os.getpid()))
        environment = {"PATH": os.environ["PATH"], **({"NOTIFY_SOCKET": address} if notifies else {})}
        main = subprocess.Popen(words, env=environment, preexec_fn=enter)
        open(f"{STATE}/{unit}.pid", "w").write(str(main.pid))
        main.wait()
        if after := value(unit, "ExecStopPost").lstrip("-"):
            subprocess.run(shlex.split(after))
        open(f"{STATE}/{unit}.pid", "w").write("")
        os._exit(0)
    while notifies and b"READY=1" not in heard.recv(4096):
        pass
    for _ in range(100):
        if pid(unit):
            return
        time.sleep(0.05)
    sys.exit(f"Job for {unit} failed.")


def stop(unit):
    if number := pid(unit):
        os.kill(number, signal.SIGTERM)
    file = f"{STATE}/{unit}.pid"
    while os.path.exists(file) and open(file).read():
        time.sleep(0.05)
    if os.path.isdir(group(unit)):
        os.rmdir(group(unit))


def main():
    os.makedirs(STATE, exist_ok=True)
    arguments = [word for word in sys.argv[1:] if word not in ("--no-ask-password", "--", "--no-block")]
    open("/tmp/systemctl.log", "a").write(" ".join(arguments) + "\n")
    verb, unit = arguments[0], arguments[-1]
    if os.path.exists(f"{STATE}/hang-{verb}") and "record" not in unit:
        time.sleep(60)
    if verb == "show":
        states = {"ActiveState": "active" if pid(unit) else "inactive", "StatusText": "12 calls"}
        print(states.get(arguments[arguments.index("-p") + 1], "some time"))
    if verb in ("stop", "restart", "try-restart"):
        stop(unit)
    if verb in ("start", "restart", "try-restart"):
        start(unit)


main()
