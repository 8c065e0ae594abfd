"""Checks a software bill of materials against Cargo.lock: every crate once, with its checksum, and no reference to nowhere.

    check_sbom.py FILE CARGO_LOCK
"""

import json
import sys
import tomllib


def demand(condition, sentence):
    if not condition:
        sys.exit(f"sbom: {sentence}")


def main(path, lock):
    with open(path, encoding="utf-8") as file:
        bom = json.load(file)
    with open(lock, "rb") as file:
        crates = {f"pkg:cargo/{crate['name']}@{crate['version']}": crate.get("checksum") for crate in tomllib.load(file)["package"]}
    own = bom["metadata"]["component"]["bom-ref"]
    references = [own] + [component["bom-ref"] for component in bom["components"]]
    hashes = {component["bom-ref"]: [h["content"] for h in component.get("hashes", [])] for component in bom["components"]}

    demand((bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.5"), "is not CycloneDX 1.5")
    demand(len(set(references)) == len(references), "names a component twice")
    demand(set(crates) <= set(references), f"lacks {sorted(set(crates) - set(references))}")
    for reference, checksum in crates.items():
        demand(checksum is None or hashes[reference] == [checksum], f"has another checksum of {reference} than Cargo.lock")
    for entry in bom["dependencies"]:
        for reference in [entry["ref"], *entry["dependsOn"]]:
            demand(reference in references, f"refers to {reference}, which it does not describe")
    print(f"sbom: {len(crates)} crates and {len(references) - len(crates)} other components, as Cargo.lock has them")


if __name__ == "__main__":
    demand(len(sys.argv) == 3, "expected two arguments, the file and Cargo.lock")
    main(*sys.argv[1:])
