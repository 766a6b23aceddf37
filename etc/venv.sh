# Sourced by ./try and ./test: makes .venv and installs the project into it.

# install_project NAME REQUIREMENT: does nothing when the source is as it was the
# last time that NAME was installed.
install_project() {
    python=${PYTHON:-python3}
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "twisted-mta needs Python 3.11 or later; name one: PYTHON=python3.12 $0" >&2
        exit 1
    }
    if [ ! -x .venv/bin/pip ]; then
        echo "Making a virtual environment in .venv ..."
        "$python" -m venv .venv || {
            echo "On Debian: apt install python3-venv" >&2
            exit 1
        }
    fi
    stamp=$(find setup.cfg pyproject.toml twisted_mta plugins -type f \
        ! -name '*.pyc' ! -name dropin.cache -exec cksum {} + | sort | cksum)
    if [ "$(cat ".venv/installed-$1" 2>/dev/null)" != "$stamp" ]; then
        echo "Installing twisted-mta and what it needs ..."
        rm -rf build/lib # setuptools would install modules that are no more
        .venv/bin/python -m pip install -qq --disable-pip-version-check "$2" </dev/null
        echo "$stamp" > ".venv/installed-$1"
    fi
}
