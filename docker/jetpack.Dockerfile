# The runtime for Jetson Orin with JetPack 6 (L4T 36.4: CUDA 12.6, TensorRT 10.3, Python 3.10). On the Jetson, or with
# emulation, from the checkout's root:
#
#     docker build --file docker/jetpack.Dockerfile --tag stts-runtime:jetpack .
#     docker run --rm --runtime nvidia --volume /etc/nv_tegra_release:/etc/nv_tegra_release:ro \
#         --volume "$PWD:/bundles" stts-runtime:jetpack doctor lite.stts
#
# TensorRT is JetPack's own, in the base; docker/gpu.Dockerfile says how the packages come here.
FROM python:3.10.18-slim-bookworm AS packages
WORKDIR /source
COPY runtimes/python ./
# DL3013 wants a version: what is installed is the folder here, and its metadata says which versions of others will do.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --target /opt/stts ".[tensorrt-cu12,video,serve]"

FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0
COPY --from=packages /opt/stts /opt/stts
# TensorRT's libraries want some that the device mounts, so it is only looked whether Python finds it and what was copied.
RUN PYTHONPATH=/opt/stts python3 -c "import tokenizers, av, cuda.bindings, stts_runtime, importlib.util as u; assert u.find_spec('tensorrt')" \
    && useradd --create-home --uid 10001 --groups video stts
ENV PYTHONPATH=/opt/stts NVIDIA_DRIVER_CAPABILITIES=all
USER 10001
WORKDIR /bundles
EXPOSE 8000
ENTRYPOINT ["python3", "-m", "stts_runtime"]
CMD ["doctor"]
