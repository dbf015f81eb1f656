# Passbook with what a server needs: no test tools, no embedded servers, and neither pip nor a compiler in the result.
# To build on a base that cannot change: --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:… (docs/operators.md, "The image").
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY requirements-build.lock requirements-runtime.lock ./
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements-build.lock \
 && python -m venv --without-pip /opt/passbook \
 && /opt/build/bin/pip --python /opt/passbook/bin/python install --no-cache-dir --require-hashes -r requirements-runtime.lock
COPY pyproject.toml README.md ./
COPY projections projections
COPY sync_worker sync_worker
COPY auth_service auth_service
COPY sync_gateway sync_gateway
COPY couch_design_docs couch_design_docs
COPY passbook passbook
COPY sample_institution sample_institution
COPY clients clients
RUN /opt/build/bin/python -m hatchling build --target wheel --directory /tmp/wheel \
 && /opt/build/bin/pip --python /opt/passbook/bin/python install --no-cache-dir --no-deps --no-index /tmp/wheel/*.whl

FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/passbook passbook
COPY --from=build /opt/passbook /opt/passbook
USER 10001
WORKDIR /var/lib/passbook
ENTRYPOINT ["/opt/passbook/bin/passbook"]
