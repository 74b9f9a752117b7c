# The main job on a plain Python image, as an ordinary user, from the lock:
#   docker build -t forcefoundry --build-arg REVISION=$(git rev-parse HEAD) .
#   docker run --init --rm -v forcefoundry:/home/forge/line/.dvc/cache forcefoundry
# The volume is DVC's cache: with it the next container recomputes nothing.
FROM python:3.11-slim

# DVC keeps its books by git.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 forge \
    && install --directory --owner forge --group forge /home/forge/line

WORKDIR /home/forge/line

# The small CPU build of torch; for the CUDA build: --build-arg TORCH_INDEX=https://pypi.org/simple
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY requirements.lock ./
RUN pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX" \
        "$(sed -n 's/^\(torch==[0-9.]*\).*/\1/p' requirements.lock)" \
    && pip install --no-cache-dir --requirement requirements.lock

COPY --chown=forge:forge pyproject.toml README.md LICENSE ./
COPY --chown=forge:forge src ./src
RUN pip install --no-cache-dir --no-deps . && rm -rf build

COPY --chown=forge:forge .dvc/config .dvc/.gitignore ./.dvc/
COPY --chown=forge:forge .dvcignore .gitignore dvc.yaml params.yaml prefect.yaml reviews.yaml ./
COPY --chown=forge:forge conf ./conf
COPY --chown=forge:forge pipeline ./pipeline

USER forge
ENV PYTHONUNBUFFERED=1 \
    OMP_WAIT_POLICY=passive

ARG REVISION=unknown
# A volume takes over the owner of the folder that it covers, so the folders are made here.
RUN mkdir --parents .dvc/cache .forcefoundry \
    && git init --quiet --initial-branch main \
    && git add --all \
    && git -c user.name=forge -c user.email=forge@localhost commit --quiet --message "The image of revision $REVISION"

CMD ["python", "-m", "pipeline", "run"]
