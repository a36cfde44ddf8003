"""Keras: the TensorFlow tutorial "Transfer learning and fine-tuning" (tutorials/images/transfer_learning).

    .venvs/tensorflow/bin/python keras_tutorial.py DATA WEIGHTS

Its steps: pictures by `image_dataset_from_directory`, batches of 32, prefetched; random flips and rotations by 0.2
inside the model; MobileNetV2 frozen and called with `training=False`, average pooling, dropout 0.2, a dense layer; 10
epochs with Adam at 1e-4; then layer 100 and those above it thawed and 10 epochs more with RMSprop at 1e-5; accuracy
on the held-out pictures before, after each epoch, and at the end. What differs: the weights, converted from timm's;
224 pixels, as they were trained, instead of 160; one output per class instead of one for two classes.
"""

from __future__ import annotations

from functools import partial

import job as benchmark
import keras
import mobilenetv2_weights
import tensorflow as tf

FINE_TUNE_AT = 100
LEARNING_RATE = 1e-4


def main() -> None:
    job = benchmark.parse(__doc__)
    keras.utils.set_random_seed(job.seed)
    size = (benchmark.INPUT_PX, benchmark.INPUT_PX)
    read = partial(keras.utils.image_dataset_from_directory, batch_size=32, image_size=size, verbose=False)
    train, test = read(job.train, shuffle=True), read(job.test, shuffle=False)
    n_classes, n_test = len(train.class_names), len(test.file_paths)
    train, test = (part.prefetch(tf.data.AUTOTUNE) for part in (train, test))

    base = keras.applications.MobileNetV2(input_shape=(*size, 3), include_top=False, weights=None)
    mobilenetv2_weights.load(base, job.weights)
    base.trainable = False
    inputs = keras.Input((*size, 3))
    x = keras.layers.RandomFlip("horizontal")(inputs)
    x = keras.layers.RandomRotation(0.2)(x)
    x = keras.applications.mobilenet_v2.preprocess_input(x)
    x = base(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    model = keras.Model(inputs, keras.layers.Dense(n_classes)(x))

    def compiled(optimizer: keras.optimizers.Optimizer) -> None:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])

    compiled(keras.optimizers.Adam(LEARNING_RATE))
    model.evaluate(test, verbose=0)
    epochs = job.epochs(10)
    model.fit(train, epochs=epochs, validation_data=test, verbose=0)

    base.trainable = True
    for layer in base.layers[:FINE_TUNE_AT]:
        layer.trainable = False
    compiled(keras.optimizers.RMSprop(LEARNING_RATE / 10))
    model.fit(train, epochs=2 * epochs, initial_epoch=epochs, validation_data=test, verbose=0)

    _, accuracy = model.evaluate(test, verbose=0)
    benchmark.report("keras", float(accuracy), n_test, ("tensorflow-cpu", "keras"))


if __name__ == "__main__":
    main()
