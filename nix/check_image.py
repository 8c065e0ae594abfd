"""Checks an image tarball as `nix build` makes it: one static program and the time zones, small, not root, fixed dates.

    check_image.py FILE TAG

Prints what it found; ends with one line and exit code 1 at the first thing that is not as it must be.
"""

import hashlib
import io
import json
import os
import struct
import sys
import tarfile

LIMIT_BYTES = 8_000_000
NAME = "weather-pipeline"
PROGRAM = "bin/weather"
ZONES = "share/zoneinfo"
PT_DYNAMIC, PT_INTERP = 2, 3
DT_NULL, DT_NEEDED = 0, 1
# What the Nix builders give every file: 1980-01-01.
FILE_DATE = 315532800


def demand(condition, sentence):
    if not condition:
        sys.exit(f"image: {sentence}")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def program_headers(elf):
    """Type, file offset and size of each segment of a 64-bit little-endian ELF file."""
    demand(elf[:6] == b"\x7fELF\x02\x01", f"/{PROGRAM} is not a 64-bit little-endian ELF file")
    table, = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    for index in range(count):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", elf, table + index * size)
        yield kind, offset, length


def needed_libraries(elf, offset, length):
    for at in range(offset, offset + length, 16):
        tag, _ = struct.unpack_from("<QQ", elf, at)
        if tag == DT_NULL:
            return
        if tag == DT_NEEDED:
            yield at


def check_static(elf):
    for kind, offset, length in program_headers(elf):
        demand(kind != PT_INTERP, f"/{PROGRAM} asks for a dynamic loader")
        if kind == PT_DYNAMIC:
            demand(not list(needed_libraries(elf, offset, length)), f"/{PROGRAM} needs shared libraries")
    demand(b"/nix/store/" not in elf.replace(b"/nix/store/" + b"e" * 32, b""), f"/{PROGRAM} refers to the Nix store")


def check_zone(layer, members, name):
    zone = members.get(f"{ZONES}/{name}")
    demand(zone and zone.isreg() and layer.extractfile(zone).read(4) == b"TZif", f"has no time zone {name}")


def check_layer(raw):
    """The layer's one program."""
    with tarfile.open(fileobj=io.BytesIO(raw)) as layer:
        members = {member.name.removeprefix("./").rstrip("/"): member for member in layer}
        members = {name: member for name, member in members.items() if name not in ("", ".", "/")}
        others = {name for name in members if not f"{name}/".startswith(f"{ZONES}/")} - {"bin", PROGRAM, "share"}
        demand(PROGRAM in members and not others, f"holds {sorted(others)} beside /{PROGRAM} and /{ZONES}")
        check_zone(layer, members, "Asia/Ho_Chi_Minh")
        program = members[PROGRAM]
        demand(members["bin"].isdir() and program.isreg(), f"/{PROGRAM} is not a plain file")
        demand(program.mode & 0o7777 == 0o555, f"/{PROGRAM} has mode {program.mode:o}, not 555")
        for member in members.values():
            demand((member.uid, member.gid) == (0, 0), f"/{member.name} belongs to {member.uid}:{member.gid}, not to root")
            demand(member.mtime == FILE_DATE, f"/{member.name} has the date {member.mtime}, not a fixed one")
        return layer.extractfile(program).read()


def main(path, tag):
    name = f"{NAME}:{tag}"
    with tarfile.open(path) as archive:
        files = {member.name.removeprefix("./"): archive.extractfile(member).read() for member in archive if member.isfile()}
    manifest, = json.loads(files["manifest.json"])
    config = json.loads(files[manifest["Config"]])
    run = config["config"]

    demand(manifest["RepoTags"] == [name], f"is called {manifest['RepoTags']}, not {name}")
    demand(run["User"] == "65532:65532", f"runs as {run.get('User') or 'root'}")
    demand(run["Entrypoint"] == ["/" + PROGRAM], f"has the entry point {run['Entrypoint']}")
    demand(config["created"] == "1970-01-01T00:00:01Z", f"has the date {config['created']}, not a fixed one")
    demand(f"TZDIR=/{ZONES}" in run["Env"], f"does not say that the time zones are in /{ZONES}")
    demand("org.opencontainers.image.version" in run["Labels"], "has no version label")
    demand(len(run["Labels"].get("weather.sbom.sha256", "")) == 64, "does not name its bill of materials")
    demand(len(manifest["Layers"]) == 1, f"has {len(manifest['Layers'])} layers")
    raw = files[manifest["Layers"][0]]
    demand(config["rootfs"]["diff_ids"] == ["sha256:" + sha256(raw)], "has a layer of another digest than it says")
    elf = check_layer(raw)
    check_static(elf)
    packed = os.path.getsize(path)
    demand(max(packed, len(elf)) < LIMIT_BYTES, f"has {packed} bytes, unpacked {len(elf)}; the limit is {LIMIT_BYTES}")
    print(f"image: {name} {run['Labels']['org.opencontainers.image.version']}, {packed} bytes, unpacked {len(elf)}, static, uid 65532")


if __name__ == "__main__":
    demand(len(sys.argv) == 3, "expected two arguments, the tarball and its tag")
    main(*sys.argv[1:])
