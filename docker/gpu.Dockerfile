# The runtime for GPUs of datacenters (L4, A100, H100, B200), and for Jetson Thor, whose JetPack 7 takes images of this
# kind. From the checkout's root:
#
#     docker build --file docker/gpu.Dockerfile --tag stts-runtime:gpu .
#     docker run --rm --gpus all --volume "$PWD:/bundles" stts-runtime:gpu doctor lite.stts
#
# CUDA 13 and TensorRT 10.13 come with the base, for x86-64 and aarch64. Packages are installed into one folder by the
# same minor version of Python that the base has, and copied: the image that runs has neither pip nor sources of ours.
FROM python:3.12.11-slim-bookworm AS packages
WORKDIR /source
COPY runtimes/python ./
# DL3013 wants a version: what is installed is the folder here, and its metadata says which versions of others will do.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --target /opt/stts ".[tensorrt-cu13,video,serve]"

FROM nvcr.io/nvidia/tensorrt:25.09-py3
COPY --from=packages /opt/stts /opt/stts
# Engines cannot be loaded without a GPU, so it is only looked whether Python finds TensorRT and what was copied.
RUN PYTHONPATH=/opt/stts python3 -c "import tokenizers, av, cuda.bindings, stts_runtime, importlib.util as u; assert u.find_spec('tensorrt')" \
    && useradd --create-home --uid 10001 --groups video stts
ENV PYTHONPATH=/opt/stts NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001
WORKDIR /bundles
EXPOSE 8000
ENTRYPOINT ["python3", "-m", "stts_runtime"]
CMD ["doctor"]
