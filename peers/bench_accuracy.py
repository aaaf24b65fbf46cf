"""What bf16 costs in accuracy, ours and OpenVINO's, on photographs.

    python bench_accuracy.py --photos imagenet-samples.tar

Very Deep PolyNet with random weights; batch norms and the classifier are fitted to the photographs, so that
feature maps have realistic sizes and every class of the classifier is the answer for some photograph.
Compared with float32: the share of photographs with the same most probable class, and the
root-mean-square error of the logits over their standard deviation.
"""

import argparse
import io
import os
import subprocess
import tarfile

import numpy as np

import bench
import graph_network

SIZE = 331


def photographs(path, count):
    """Photographs of an archive, cropped at the centre, `[count, 3, SIZE, SIZE]`."""
    from PIL import Image

    images = []
    with tarfile.open(path) as archive:
        for member in archive:
            if len(images) == count or not member.isfile():
                continue
            image = Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB")
            scale = SIZE / 0.875 / min(image.size)
            image = image.resize([round(scale * pixels) for pixels in image.size], Image.BILINEAR)
            left, top = ((pixels - SIZE) // 2 for pixels in image.size)
            image = np.asarray(image.crop((left, top, left + SIZE, top + SIZE)), dtype="float32")
            images.append(((image / 255 - 0.5) / 0.5).transpose(2, 0, 1))
    return np.stack(images)


def fitted(arguments, images):
    """The network as a model folder of ours, and in PyTorch."""
    import torch
    from safetensors.numpy import save_file

    preset = f"very-deep-polynet; classes = {len(images)}"
    graph = bench.ours(arguments, "inspect", preset, "--json", "--graph")["graph"]
    torch.manual_seed(1)
    network = graph_network.GraphNetwork(graph)
    graph_network.MOMENTUM = 1.0
    with torch.inference_mode():
        network.train()(torch.from_numpy(images[:: max(1, len(images) // 8)]))
    network.eval()
    classifier = network.nodes[-1]
    weight, bias = (network.tensor(classifier[name]) for name in ("weight", "bias"))
    with torch.no_grad():
        # With the identity as classifier the logits are the features.
        features = []
        kept = (weight.clone(), bias.clone())
        linear = network.node_linear
        network.steps[-1] = (lambda node, x: features.append(x.flatten(1)) or linear(node, x), classifier)
        for image in torch.from_numpy(images).split(4):
            network(image)
        network.steps[-1] = (linear, classifier)
        features = torch.cat(features)
        centred = features - features.mean(0)
        weight.copy_(centred / centred.norm(dim=1, keepdim=True))
        bias.copy_(-(weight @ features.mean(0)))
        assert kept[0].shape == weight.shape
    folder = os.path.join(arguments.out, "accuracy")
    os.makedirs(folder, exist_ok=True)
    model = os.path.join(folder, "model")
    if os.path.exists(model):
        raise SystemExit(f"{model} is there from before; remove it")
    weights = os.path.join(folder, "weights.safetensors")
    save_file({name: tensor.numpy() for name, tensor in network.named_tensors().items()}, weights)
    classes = os.path.join(folder, "classes.txt")
    with open(classes, "w") as file:
        file.writelines(f"photograph {index}\n" for index in range(len(images)))
    command = [arguments.polynet, "import", weights, "--preset", preset, "--out", model, "--classes", classes]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder, model, network


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, help="a .tar of photographs")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--polynet", default="target/release/polynet", help="our program")
    parser.add_argument("--out", default="target/peers-bench", help="models")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    images = photographs(arguments.photos, arguments.count)
    folder, model, network = fitted(arguments, images)
    onnx = bench.exported(folder, network, SIZE)
    exact = bench.our_logits(arguments, folder, model, images, "f32")
    found = {"polynet": bench.our_logits(arguments, folder, model, images, "bf16")}
    for precision in ("f32", "bf16"):
        compiled = bench.openvino_model(onnx, (1, 3, SIZE, SIZE), precision, arguments.threads)
        found[f"OpenVINO {precision}"] = np.concatenate([compiled(image[None])[0].copy() for image in images])
    for name, logits in found.items():
        same = (logits.argmax(1) == exact.argmax(1)).mean()
        error = np.sqrt(((logits - exact) ** 2).mean()) / exact.std()
        print(f"{name:<16} same class {100 * same:.1f} %  error {error:.2e}  ({len(images)} photographs)")


if __name__ == "__main__":
    main()
