"""The datasets that have a name: what their splits hold, and what a network must know of them."""

from dataclasses import dataclass

SPLITS = {  # images in each split of those that can be fetched; the first is the default
    "cifar10": {"sample": 2_500, "test": 10_000, "train": 50_000},
    "cifar100": {"test": 10_000, "train": 50_000},
    "tinyimagenet50": {"test": 2_500, "train": 25_000},
}
CLASSES = {  # their names, where a set of images does not say them itself
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "cifar100": tuple(
        (
            "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can "
            "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin "
            "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard "
            "lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear "
            "pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark "
            "shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone "
            "television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
        ).split()
    ),
}


@dataclass(frozen=True)
class Dataset:
    """What a network must know of a dataset: classes, mean and standard deviation of the training pixels, width of an image."""

    num_classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int


# CIFAR: over the training set's pixels. ImageNet: the values torchvision's weights were trained with.
DATASETS = {
    "cifar10": Dataset(10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), 32),
    "cifar100": Dataset(100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), 32),
    "tinyimagenet50": Dataset(50, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 64),
    "imagenet": Dataset(1000, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224),
}
