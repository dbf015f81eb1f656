FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.lock pyproject.toml README.md ./
RUN python -m venv /opt/passbook && /opt/passbook/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY projections projections
COPY sync_worker sync_worker
COPY auth_service auth_service
COPY sync_gateway sync_gateway
COPY couch_design_docs couch_design_docs
COPY passbook passbook
COPY sample_institution sample_institution
RUN /opt/passbook/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --system --create-home --home-dir /var/lib/passbook passbook
COPY --from=build /opt/passbook /opt/passbook
USER passbook
WORKDIR /var/lib/passbook
ENTRYPOINT ["/opt/passbook/bin/passbook"]
