"""Packs this machine's stunnel into an image, weather-stunnel:latest, for clusters that `nix build .#image-stunnel` does not reach.

    stunnel_image.py FILE

FILE becomes a tarball as `docker save` writes it: the program, the libraries that it loads, the public certificate authorities,
and sleep, so that a pod can hold the image without tunnels.
"""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile

NAME = "weather-stunnel:latest"
USER = "65532:65532"
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
AUTHORITIES_IN_IMAGE = "/etc/ssl/certs/ca-bundle.crt"
ADMINISTRATORS_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"


def find_stunnel():
    path = os.environ["PATH"] + ":" + ADMINISTRATORS_FOLDERS
    found = shutil.which("stunnel4", path=path) or shutil.which("stunnel", path=path)
    return found or sys.exit("stunnel_image.py: there is no stunnel on this machine; install the package stunnel4")


def libraries(program):
    """The files that the dynamic loader takes, itself included, where it looks for them; and what libc loads to end a thread."""
    listing = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    found = re.findall(r"(/\S+) \(0x", listing)
    libc = next(name for name in found if os.path.basename(name).startswith("libc.so"))
    return [*found, os.path.join(os.path.dirname(libc), "libgcc_s.so.1")]


def layer(files):
    """A tarball of {path in the image: path here}."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for inside, here in sorted(files.items()):
            with open(here, "rb") as content:
                add(archive, inside.lstrip("/"), content.read(), 0o555)
    return packed.getvalue()


def add(archive, name, content, mode=0o444):
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    archive.addfile(member, io.BytesIO(content))


def main(path):
    stunnel = find_stunnel()
    sleep = shutil.which("sleep")
    files = {name: name for program in (stunnel, sleep) for name in [program, *libraries(program)]}
    files[AUTHORITIES_IN_IMAGE] = AUTHORITIES
    content = layer(files)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [stunnel], "User": USER},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(content).hexdigest()]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        add(archive, "config.json", json.dumps(config).encode())
        add(archive, "manifest.json", json.dumps(manifest).encode())
        add(archive, "layer.tar", content)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("stunnel_image.py: expected one argument, the file to write")
    main(sys.argv[1])
