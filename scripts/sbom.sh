#!/usr/bin/env bash
# Prints an SBOM of the container image, SPDX 2.3 as JSON: Headlight and the Debian packages that the image has files of.
#   scripts/sbom.sh VERSION "PACKAGE..." "HEADER-PACKAGE..."
# PACKAGE: what the programs load or open; HEADER-PACKAGE: what is compiled into them. All are installed here, whose versions
# these are. The time in it is SOURCE_DATE_EPOCH, 0 unless set, so that the same packages give the same bytes.
set -euo pipefail

readonly VERSION=${1:?} PACKAGES=${2:?} HEADER_PACKAGES=${3:?}

die() { echo "sbom: error: $*" >&2; exit 1; }
# spdx_id PACKAGE: its identifier in the document. "+", which Debian's names may have, is not allowed there.
spdx_id() { echo "SPDXRef-Package-${1//+/-plus}"; }
url_encoded() { sed 's/+/%2B/g; s/:/%3A/g' <<<"$1"; }

# Names and versions of Debian's packages need no escapes in JSON.
describe() {
  local package=$1 version architecture source source_version
  # shellcheck disable=SC2016  # dpkg-query expands these
  read -r version architecture source source_version < <(
    dpkg-query -W -f '${Version} ${Architecture} ${source:Package} ${source:Version}\n' "$package") ||
    die "$package is not installed"
  cat <<JSON
    {
      "SPDXID": "$(spdx_id "$package")",
      "name": "$package",
      "versionInfo": "$version",
      "supplier": "Organization: Debian",
      "downloadLocation": "NOASSERTION",
      "filesAnalyzed": false,
      "licenseConcluded": "NOASSERTION",
      "licenseDeclared": "NOASSERTION",
      "licenseComments": "/usr/share/doc/$package/copyright in the image",
      "copyrightText": "NOASSERTION",
      "sourceInfo": "built from source package $source $source_version",
      "externalRefs": [
        {
          "referenceCategory": "PACKAGE-MANAGER",
          "referenceType": "purl",
          "referenceLocator": "pkg:deb/debian/$(url_encoded "$package")@$(url_encoded "$version")?arch=$architecture"
        }
      ]
    },
JSON
}

relate() { echo "    {\"spdxElementId\": \"$1\", \"relationshipType\": \"$2\", \"relatedSpdxElement\": \"$3\"},"; }

packages=$(for package in $PACKAGES $HEADER_PACKAGES; do describe "$package"; done)
relationships=$(
  for package in $PACKAGES; do relate SPDXRef-Package-headlight DEPENDS_ON "$(spdx_id "$package")"; done
  for package in $HEADER_PACKAGES; do relate SPDXRef-Package-headlight STATIC_LINK "$(spdx_id "$package")"; done)
contents=$(sha256sum <<<"$VERSION $packages" | cut -c 1-32)
cat <<JSON
{
  "spdxVersion": "SPDX-2.3",
  "dataLicense": "CC0-1.0",
  "SPDXID": "SPDXRef-DOCUMENT",
  "name": "headlight-$VERSION",
  "documentNamespace": "https://spdx.org/spdxdocs/headlight-$VERSION-$contents",
  "creationInfo": {
    "created": "$(date -u -d "@${SOURCE_DATE_EPOCH:-0}" +%Y-%m-%dT%H:%M:%SZ)",
    "creators": ["Tool: headlight-sbom.sh"]
  },
  "packages": [
$packages
    {
      "SPDXID": "SPDXRef-Package-headlight",
      "name": "headlight",
      "versionInfo": "$VERSION",
      "downloadLocation": "NOASSERTION",
      "filesAnalyzed": false,
      "licenseConcluded": "Apache-2.0",
      "licenseDeclared": "Apache-2.0",
      "copyrightText": "NOASSERTION"
    }
  ],
  "relationships": [
$relationships
    {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-Package-headlight"}
  ]
}
JSON
